#include "serve/completion_request.h"

#include "base/json.h"
#include "serve/bootstrap_fields.h"
#include "serve/field_check.h"
#include "serve/sampling_fields.h"

namespace hylas {
namespace {

constexpr int64_t kTopLogprobsMax = 20;
constexpr int32_t kDefaultTokens = 16;
constexpr std::string_view kCompletionNames[] = {"prompt", "echo",           "logprobs", "best_of",
                                                 "stream", "stream_options", "rid"};

Status parse_logprobs(const json::object& from, CompletionRequest& request) {
  HYLAS_ASSIGN(auto top, json::optional_int(from, "logprobs"));
  if (!top) return {};
  if (*top < 0 || *top > kTopLogprobsMax) {
    return error(ErrorCode::kInvalid, "`logprobs` must be from 0 to {}, not {}", kTopLogprobsMax, *top);
  }
  request.generation.sampling.top_logprobs = int32_t(*top);
  if (request.echo) request.generation.sampling.prompt_logprobs_from = 0;
  return {};
}

}  // namespace

Result<CompletionRequest> parse_completion(std::string_view body, const ApiLimits& limits) {
  HYLAS_ASSIGN(json::object from, json::parse_object(body, "the request body"));
  std::vector<std::string_view> known(std::begin(kCompletionNames), std::end(kCompletionNames));
  auto sampling_names = sampling_field_names(ApiKind::kOpenAi);
  known.insert(known.end(), sampling_names.begin(), sampling_names.end());
  HYLAS_TRY(check_fields(from, known));

  CompletionRequest request;
  HYLAS_ASSIGN(request.generation, parse_sampling(from, ApiKind::kOpenAi, limits));
  HYLAS_ASSIGN(request.generation.bootstrap, parse_bootstrap(from));
  if (!request.generation.max_new_tokens) request.generation.max_new_tokens = kDefaultTokens;
  const json::value* prompt = from.if_contains("prompt");
  if (!prompt) return error(ErrorCode::kInvalid, "`prompt` is required");
  HYLAS_ASSIGN(PromptList list, parse_prompts(*prompt, "prompt", limits.vocab_size));
  request.prompts = std::move(list.prompts);
  HYLAS_ASSIGN(auto echo, json::optional_bool(from, "echo"));
  request.echo = echo.value_or(false);
  HYLAS_TRY(parse_logprobs(from, request));
  HYLAS_ASSIGN(auto best_of, json::optional_int(from, "best_of"));
  if (best_of && *best_of != request.generation.n) {
    return error(ErrorCode::kUnsupported, "`best_of` is {}; only the value of n, {}, is supported", *best_of,
                 request.generation.n);
  }
  HYLAS_ASSIGN(request.stream, parse_stream_fields(from));
  HYLAS_ASSIGN(auto id, json::optional_string(from, "rid"));
  request.request_id = id.value_or("");
  return request;
}

}  // namespace hylas
