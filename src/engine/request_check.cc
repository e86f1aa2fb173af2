#include "engine/request_check.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace hylas {
namespace {

Status check_ids(const char* what, std::span<const int32_t> ids, int32_t vocab_size) {
  for (int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      return error(ErrorCode::kInvalid, "{}: token id {} is outside the vocabulary of {}", what, id, vocab_size);
    }
  }
  return {};
}

Status check_prompt(const Request& request, const RequestLimits& limits) {
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  if (tokens == 0) return error(ErrorCode::kInvalid, "the prompt is empty: at least one token is needed");
  if (tokens >= limits.context_length) {
    return error(ErrorCode::kInvalid,
                 "the prompt has {} tokens, but the context length is {} and at least one token must be generated",
                 tokens, limits.context_length);
  }
  if (tokens >= limits.kv_tokens_max) {
    return error(ErrorCode::kInvalid,
                 "the prompt has {} tokens and needs KV memory for {}, but there is room for {} (--max-total-tokens, "
                 "--mem-fraction-static)",
                 tokens, tokens + 1, limits.kv_tokens_max);
  }
  return check_ids("prompt", request.prompt, limits.vocab_size);
}

Status check_range(const char* name, float value, float low, float high) {
  if (std::isfinite(value) && value >= low && value <= high) return {};
  return error(ErrorCode::kInvalid, "{} is {}: must lie in [{}, {}]", name, value, low, high);
}

Status check_counts(const SamplingParams& sampling, const RequestLimits& limits) {
  if (sampling.max_new_tokens < 1) {
    return error(ErrorCode::kInvalid, "max_new_tokens is {}: must be at least 1", sampling.max_new_tokens);
  }
  if (sampling.min_new_tokens < 0 || sampling.min_new_tokens > sampling.max_new_tokens) {
    return error(ErrorCode::kInvalid, "min_new_tokens is {}: must lie between 0 and max_new_tokens, {}",
                 sampling.min_new_tokens, sampling.max_new_tokens);
  }
  if (sampling.top_k != -1 && sampling.top_k < 1) {
    return error(ErrorCode::kInvalid, "top_k is {}: must be at least 1, or -1 for all", sampling.top_k);
  }
  if (sampling.top_logprobs < -1 || sampling.top_logprobs > limits.vocab_size) {
    return error(ErrorCode::kInvalid, "top_logprobs is {}: must lie between 0 and {}, or be -1 for none",
                 sampling.top_logprobs, limits.vocab_size);
  }
  if (sampling.prompt_logprobs_from < -1) {
    return error(ErrorCode::kInvalid, "prompt_logprobs_from is {}: must be a position, or -1 for none",
                 sampling.prompt_logprobs_from);
  }
  return {};
}

Status check_sampling(const SamplingParams& sampling, const RequestLimits& limits) {
  constexpr float kLarge = 1e9f;
  HYLAS_TRY(check_counts(sampling, limits));
  HYLAS_TRY(check_range("temperature", sampling.temperature, 0.f, kLarge));
  HYLAS_TRY(check_range("top_p", sampling.top_p, 0.f, 1.f));
  HYLAS_TRY(check_range("min_p", sampling.min_p, 0.f, 1.f));
  HYLAS_TRY(check_range("frequency_penalty", sampling.frequency_penalty, -kLarge, kLarge));
  HYLAS_TRY(check_range("presence_penalty", sampling.presence_penalty, -kLarge, kLarge));
  HYLAS_TRY(check_range("repetition_penalty", sampling.repetition_penalty, 0.f, kLarge));
  if (sampling.top_p == 0.f) return error(ErrorCode::kInvalid, "top_p is 0: must be greater");
  if (sampling.repetition_penalty == 0.f) return error(ErrorCode::kInvalid, "repetition_penalty is 0: must be greater");
  for (const LogitBias& bias : sampling.logit_bias) {
    HYLAS_TRY(check_ids("logit_bias", std::span(&bias.token, 1), limits.vocab_size));
    HYLAS_TRY(check_range("logit_bias", bias.bias, -kLarge, kLarge));
  }
  return check_ids("stop_token_ids", sampling.stop_token_ids, limits.vocab_size);
}

}  // namespace

int32_t sequence_tokens_max(const RequestLimits& limits) {
  return static_cast<int32_t>(std::min<int64_t>(limits.context_length, limits.kv_tokens_max));
}

Status check_request(const Request& request, const RequestLimits& limits) {
  HYLAS_TRY(check_prompt(request, limits));
  return check_sampling(request.sampling, limits);
}

}  // namespace hylas
