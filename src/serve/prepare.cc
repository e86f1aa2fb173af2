#include "serve/prepare.h"

#include <algorithm>

namespace hylas {
namespace {

Status check_length(const ServeContext& context, size_t prompt_tokens, std::string_view field) {
  int32_t context_length = context.engine.info().context_length;
  if (prompt_tokens == 0) return error(ErrorCode::kInvalid, "`{}` is empty: at least one token is needed", field);
  if (int64_t(prompt_tokens) < context_length) return {};
  return error(ErrorCode::kInvalid,
               "`{}` is too long: the prompt has {} tokens, and the context of {} tokens must also hold the reply",
               field, prompt_tokens, context_length);
}

}  // namespace

ServeContext::ServeContext(Engine& engine_in, const TextModel& text, ServeOptions options_in)
    : engine(engine_in),
      tokenizer(*text.tokenizer),
      chat_template(text.chat_template.get()),
      options(std::move(options_in)),
      limits{options.defaults, engine.info().vocab_size},
      grammars(tokenizer, engine.info().vocab_size, engine.info().eos_ids),
      metrics(options.model_name),
      next_seed(options.random_seed.value_or(0)),
      workers(options.text_threads, options.requests_max) {}

Result<std::vector<int32_t>> encode_prompt(const ServeContext& context, const PromptInput& prompt,
                                           std::string_view field) {
  std::vector<int32_t> ids;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    ids = context.tokenizer.encode(*text);
  } else {
    ids = std::get<std::vector<int32_t>>(prompt);
  }
  HYLAS_TRY(check_length(context, ids.size(), field));
  return ids;
}

Result<RenderedChat> render_prompt(const ServeContext& context, const ChatPrompt& prompt) {
  if (!context.chat_template) {
    return error(ErrorCode::kUnsupported,
                 "`messages` cannot be rendered: the checkpoint has no chat template; start with --chat-template FILE");
  }
  auto text = render_chat(*context.chat_template, prompt);
  if (!text.ok()) return error(text.error().code, "`messages` cannot be rendered: {}", text.error().message);
  RenderedChat rendered{.text = std::move(*text)};
  rendered.ids = context.tokenizer.encode(rendered.text);
  HYLAS_TRY(check_length(context, rendered.ids.size(), "messages"));
  return rendered;
}

Result<SharedGrammar> compile_constraint(ServeContext& context, const OutputConstraint& constraint,
                                         const boost::json::array& tools, bool parallel) {
  using Kind = OutputConstraint::Kind;
  switch (constraint.kind) {
    case Kind::kNone:
      return SharedGrammar();
    case Kind::kJsonObject:
      return context.grammars.json_object();
    case Kind::kJsonSchema:
      return context.grammars.json_schema(constraint.text);
    case Kind::kRegex:
      return context.grammars.regex(constraint.text);
    case Kind::kEbnf:
      return context.grammars.ebnf(constraint.text);
    case Kind::kToolCalls:
      return context.grammars.tool_calls(tools, constraint.text, parallel);
  }
  return SharedGrammar();
}

Request make_request(ServeContext& context, const GenerationRequest& from, std::vector<int32_t> prompt, int32_t copy,
                     const SharedGrammar& grammar, std::optional<int32_t> grammar_after) {
  Request request{.prompt = std::move(prompt), .sampling = from.sampling, .bootstrap = from.bootstrap};
  SamplingParams& sampling = request.sampling;
  int32_t prompt_tokens = int32_t(request.prompt.size());
  int32_t room = context.engine.info().context_length - prompt_tokens;
  sampling.max_new_tokens = std::min(from.max_new_tokens.value_or(room), room);
  if (sampling.prompt_logprobs_from >= 0) {
    // The first token has no logprob; none are left behind the prompt's end.
    int32_t from_position = std::max(sampling.prompt_logprobs_from, 1);
    sampling.prompt_logprobs_from = from_position < prompt_tokens ? from_position : -1;
  }
  if (sampling.seed) {
    *sampling.seed += uint64_t(copy);
  } else if (context.options.random_seed) {
    sampling.seed = context.next_seed++;
  }
  if (grammar) request.grammar = std::make_shared<GrammarMatcher>(grammar, grammar_after);
  return request;
}

}  // namespace hylas
