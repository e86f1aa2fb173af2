// The routes that generate text.
#include "base/log.h"
#include "serve/api_error.h"
#include "serve/chat_reply.h"
#include "serve/completion_reply.h"
#include "serve/native_reply.h"
#include "serve/prepare.h"
#include "serve/routes.h"

namespace hylas {
namespace {

void answer_error(const Error& error, HttpReply& reply) {
  reply.reply_json(http_status(error.code), error_json(error));
}

Status check_parsers(const ServeContext& context, const ChatRequest& request) {
  using Kind = ToolChoice::Kind;
  bool must_call = request.tool_choice.kind == Kind::kRequired || request.tool_choice.kind == Kind::kNamed;
  if (!must_call || context.options.tool_call_parser) return {};
  return error(ErrorCode::kUnsupported,
               "`tool_choice` asks for a call, but this server runs without a parser of calls: start it with "
               "--tool-call-parser qwen3_coder");
}

void note_missing_parser(const ServeContext& context, const ChatRequest& request) {
  if (request.tool_choice.kind == ToolChoice::Kind::kNone || context.options.tool_call_parser) return;
  log::warn("a request has tools, but calls will stay text: start with --tool-call-parser qwen3_coder");
}

Status start_chat(ServeContext& context, const HttpRequest& http_request, const std::shared_ptr<HttpReply>& http) {
  HYLAS_ASSIGN(ChatRequest request, parse_chat(http_request.body, context.limits));
  HYLAS_TRY(check_parsers(context, request));
  note_missing_parser(context, request);
  HYLAS_ASSIGN(RenderedChat rendered, render_prompt(context, request.prompt));
  HYLAS_ASSIGN(SharedGrammar grammar, compile_constraint(context, request.generation.constraint, request.prompt.tools,
                                                         request.parallel_tool_calls));
  bool thinks = prompt_opens_thinking(rendered.text);
  std::optional<int32_t> grammar_after;  // the grammar is about the answer, not about the thoughts before it
  if (thinks && context.options.reasoning_parser) grammar_after = context.tokenizer.token_id("</think>");

  std::vector<Job> jobs;
  for (int32_t copy = 0; copy < request.generation.n; ++copy) {
    jobs.push_back({make_request(context, request.generation, rendered.ids, copy, grammar, grammar_after),
                    OutputText(context.tokenizer, request.generation), request.request_id});
  }
  std::make_shared<ChatReply>(context, http, std::move(request), thinks)->start(std::move(jobs));
  return {};
}

Status start_completions(ServeContext& context, const HttpRequest& http_request,
                         const std::shared_ptr<HttpReply>& http) {
  HYLAS_ASSIGN(CompletionRequest request, parse_completion(http_request.body, context.limits));
  HYLAS_ASSIGN(SharedGrammar grammar, compile_constraint(context, request.generation.constraint, {}, false));
  std::vector<std::vector<int32_t>> prompt_ids;
  std::vector<Job> jobs;
  for (const PromptInput& prompt : request.prompts) {
    HYLAS_ASSIGN(std::vector<int32_t> ids, encode_prompt(context, prompt, "prompt"));
    for (int32_t copy = 0; copy < request.generation.n; ++copy) {
      jobs.push_back({make_request(context, request.generation, ids, copy, grammar),
                      OutputText(context.tokenizer, request.generation), request.request_id});
    }
    prompt_ids.push_back(std::move(ids));
  }
  std::make_shared<CompletionReply>(context, http, std::move(request), std::move(prompt_ids))->start(std::move(jobs));
  return {};
}

Status start_generate(ServeContext& context, const HttpRequest& http_request, const std::shared_ptr<HttpReply>& http) {
  HYLAS_ASSIGN(NativeRequest request, parse_native(http_request.body, context.limits));
  std::vector<std::vector<int32_t>> prompt_ids;
  std::vector<Job> jobs;
  for (const NativeItem& item : request.items) {
    bool text = std::holds_alternative<std::string>(item.prompt);
    HYLAS_ASSIGN(std::vector<int32_t> ids, encode_prompt(context, item.prompt, text ? "text" : "input_ids"));
    HYLAS_ASSIGN(SharedGrammar grammar, compile_constraint(context, item.generation.constraint, {}, false));
    for (int32_t copy = 0; copy < item.generation.n; ++copy) {
      jobs.push_back({make_request(context, item.generation, ids, copy, grammar),
                      OutputText(context.tokenizer, item.generation), item.request_id});
    }
    prompt_ids.push_back(std::move(ids));
  }
  std::make_shared<NativeReply>(context, http, std::move(request), std::move(prompt_ids))->start(std::move(jobs));
  return {};
}

// Says with 200 that a token came.
class HealthReply : public Reply {
 public:
  using Reply::Reply;

 protected:
  void on_piece(size_t, Piece) override {}
  void on_end() override { send_json(boost::json::object{{"status", "ok"}}); }
};

}  // namespace

void route_chat(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  if (Status started = start_chat(context, request, reply); !started.ok()) answer_error(started.error(), *reply);
}

void route_completions(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  if (Status started = start_completions(context, request, reply); !started.ok()) answer_error(started.error(), *reply);
}

void route_generate(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  if (Status started = start_generate(context, request, reply); !started.ok()) answer_error(started.error(), *reply);
}

void route_health_generate(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  GenerationRequest generation{.max_new_tokens = 1};
  generation.sampling.temperature = 0;
  std::vector<Job> jobs;
  jobs.push_back({make_request(context, generation, {0}, 0, nullptr), OutputText(context.tokenizer, generation), ""});
  std::make_shared<HealthReply>(context, reply, false)->start(std::move(jobs));
}

}  // namespace hylas
