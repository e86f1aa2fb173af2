#include "serve/openai_json.h"

#include <cmath>
#include <random>

namespace hylas {

using boost::json::array;
using boost::json::object;
using boost::json::value;

object usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"reasoning_tokens", usage.reasoning_tokens},
          {"prompt_tokens_details", object{{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", object{{"reasoning_tokens", usage.reasoning_tokens}}}};
}

std::string new_id(std::string_view prefix) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{}{:016x}{:08x}", prefix, random(), uint32_t(random()));
}

const char* finish_reason_name(const Finish& finish, bool made_calls) {
  switch (finish.reason) {
    case FinishReason::kStop:
      return made_calls ? "tool_calls" : "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
    case FinishReason::kError:
      return "abort";
  }
  return "abort";
}

value matched_stop(const Finish& finish) {
  if (finish.stop_string) return boost::json::string(*finish.stop_string);
  if (finish.stop_token) return *finish.stop_token;
  return nullptr;
}

std::string token_text(const Tokenizer& tokenizer, int32_t id) {
  return tokenizer.decode(std::span(&id, 1), /*skip_special_tokens=*/false);
}

double json_logprob(float logprob) { return std::isfinite(logprob) ? double(logprob) : -9999.0; }

namespace {

object one_logprob(const Tokenizer& tokenizer, int32_t id, float logprob) {
  array bytes;
  for (unsigned char byte : tokenizer.token_bytes(id)) bytes.emplace_back(int64_t(byte));
  return {{"token", token_text(tokenizer, id)}, {"logprob", json_logprob(logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

object chat_logprob(const Tokenizer& tokenizer, const OutputToken& token) {
  object result = one_logprob(tokenizer, token.id, token.logprob);
  array top;
  for (const TokenLogprob& one : token.top) top.emplace_back(one_logprob(tokenizer, one.token, one.logprob));
  result["top_logprobs"] = std::move(top);
  return result;
}

object answer_head(std::string_view id, std::string_view object_name, int64_t created_s, std::string_view model) {
  return {{"id", id}, {"object", object_name}, {"created", created_s}, {"model", model}};
}

}  // namespace hylas
