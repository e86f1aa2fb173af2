// /tokenize and /detokenize.
#include "base/json.h"
#include "serve/api_error.h"
#include "serve/chat_request.h"
#include "serve/field_check.h"
#include "serve/prompts.h"
#include "serve/routes.h"
#include "text/chat.h"

namespace hylas {
namespace {

using json::array;
using json::object;

constexpr std::string_view kTextNames[] = {"prompt", "add_special_tokens"};
constexpr std::string_view kChatNames[] = {
    "messages", "tools", "add_generation_prompt", "chat_template_kwargs", "reasoning_effort", "add_special_tokens"};
constexpr std::string_view kDetokenizeNames[] = {"tokens", "skip_special_tokens"};

// Without the length limit of a request that generates: counting is what this is for.
Result<std::vector<int32_t>> tokens_of(const ServeContext& context, const object& from) {
  HYLAS_TRY(json::optional_bool(from, "add_special_tokens"));  // the family's tokenizers add none
  if (!from.contains("messages")) {
    HYLAS_TRY(check_fields(from, kTextNames));
    HYLAS_ASSIGN(std::string_view prompt, json::require_string(from, "prompt"));
    return context.tokenizer.encode(prompt);
  }
  HYLAS_TRY(check_fields(from, kChatNames));
  HYLAS_ASSIGN(ChatPrompt prompt, parse_chat_prompt(from));
  if (!context.chat_template) {
    return error(ErrorCode::kUnsupported, "`messages` cannot be rendered: the checkpoint has no chat template");
  }
  HYLAS_ASSIGN(std::string text, render_chat(*context.chat_template, prompt));
  return context.tokenizer.encode(text);
}

Result<object> tokenize(const ServeContext& context, std::string_view body) {
  HYLAS_ASSIGN(object from, json::parse_object(body, "the request body"));
  HYLAS_ASSIGN(std::vector<int32_t> ids, tokens_of(context, from));
  array tokens(ids.begin(), ids.end());
  return object{
      {"tokens", std::move(tokens)}, {"count", ids.size()}, {"max_model_len", context.engine.info().context_length}};
}

Result<object> detokenize(const ServeContext& context, std::string_view body) {
  HYLAS_ASSIGN(object from, json::parse_object(body, "the request body"));
  HYLAS_TRY(check_fields(from, kDetokenizeNames));
  HYLAS_ASSIGN(const array* tokens, json::require_array(from, "tokens"));
  HYLAS_ASSIGN(auto skip, json::optional_bool(from, "skip_special_tokens"));
  if (tokens->empty()) return object{{"text", ""}};
  HYLAS_ASSIGN(PromptList list, parse_prompts(*tokens, "tokens", context.limits.vocab_size));
  const auto* ids = std::get_if<std::vector<int32_t>>(&list.prompts[0]);
  if (list.is_list || !ids) return error(ErrorCode::kInvalid, "`tokens` must be an array of token ids");
  return object{{"text", context.tokenizer.decode(*ids, skip.value_or(true))}};
}

void answer(const Result<object>& result, HttpReply& reply) {
  if (result.ok()) return reply.reply_json(200, boost::json::serialize(*result));
  reply.reply_json(http_status(result.error().code), error_json(result.error()));
}

}  // namespace

void route_tokenize(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  answer(tokenize(context, request.body), *reply);
}

void route_detokenize(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  answer(detokenize(context, request.body), *reply);
}

}  // namespace hylas
