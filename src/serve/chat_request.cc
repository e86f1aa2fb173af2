#include "serve/chat_request.h"

#include "base/json.h"
#include "serve/bootstrap_fields.h"
#include "serve/chat_messages.h"
#include "serve/field_check.h"
#include "serve/sampling_fields.h"

namespace hylas {
namespace {

using json::object;
constexpr int64_t kTopLogprobsMax = 20;

constexpr std::string_view kChatNames[] = {
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "chat_template_kwargs",
    "reasoning_effort",
    "separate_reasoning",
    "stream_reasoning",
    "rid",
    "add_generation_prompt",
};

Status parse_logprobs(const object& from, SamplingParams& sampling) {
  HYLAS_ASSIGN(auto wanted, json::optional_bool(from, "logprobs"));
  HYLAS_ASSIGN(auto top, json::optional_int(from, "top_logprobs"));
  if (top && (*top < 0 || *top > kTopLogprobsMax)) {
    return error(ErrorCode::kInvalid, "`top_logprobs` must be from 0 to {}, not {}", kTopLogprobsMax, *top);
  }
  if (top.value_or(0) > 0 && !wanted.value_or(false)) {
    return error(ErrorCode::kInvalid, "`top_logprobs` needs logprobs: true");
  }
  if (wanted.value_or(false)) sampling.top_logprobs = int32_t(top.value_or(0));
  return {};
}

Status apply_tool_choice(ChatRequest& request) {
  using Kind = ToolChoice::Kind;
  if (request.tool_choice.kind == Kind::kNone) request.prompt.tools.clear();  // the model need not see them
  bool must_call = request.tool_choice.kind == Kind::kRequired || request.tool_choice.kind == Kind::kNamed;
  if (!must_call) return {};
  OutputConstraint& constraint = request.generation.constraint;
  if (constraint.kind != OutputConstraint::Kind::kNone) {
    return error(ErrorCode::kInvalid, "`tool_choice` asks for a call, and another field for output of another form");
  }
  constraint = {OutputConstraint::Kind::kToolCalls, request.tool_choice.function};
  return {};
}

}  // namespace

Result<StreamFields> parse_stream_fields(const object& from) {
  StreamFields fields;
  HYLAS_ASSIGN(auto stream, json::optional_bool(from, "stream"));
  fields.stream = stream.value_or(false);
  HYLAS_ASSIGN(const object* options, json::optional_object(from, "stream_options"));
  if (!options) return fields;
  if (!fields.stream) return error(ErrorCode::kInvalid, "`stream_options` needs stream: true");
  constexpr std::string_view kNames[] = {"include_usage", "continuous_usage_stats", "include_obfuscation"};
  HYLAS_TRY(check_fields(*options, kNames, "stream_options"));
  HYLAS_ASSIGN(auto usage, json::optional_bool(*options, "include_usage", "stream_options"));
  HYLAS_ASSIGN(auto continuous, json::optional_bool(*options, "continuous_usage_stats", "stream_options"));
  fields.include_usage = usage.value_or(false);
  fields.continuous_usage_stats = continuous.value_or(false);
  return fields;
}

Result<ChatPrompt> parse_chat_prompt(const object& from) {
  ChatPrompt prompt;
  HYLAS_ASSIGN(prompt.messages, parse_messages(from));
  HYLAS_ASSIGN(prompt.tools, parse_tools(from));
  HYLAS_ASSIGN(auto generation_prompt, json::optional_bool(from, "add_generation_prompt"));
  prompt.add_generation_prompt = generation_prompt.value_or(true);
  HYLAS_ASSIGN(auto effort, json::optional_string(from, "reasoning_effort"));
  if (effort) {
    prompt.template_kwargs["reasoning_effort"] = *effort;
    if (*effort == "none") prompt.template_kwargs["enable_thinking"] = false;
  }
  HYLAS_ASSIGN(const object* kwargs, json::optional_object(from, "chat_template_kwargs"));
  if (kwargs) {
    for (const auto& [key, value] : *kwargs) prompt.template_kwargs[key] = value;
  }
  return prompt;
}

Result<ChatRequest> parse_chat(std::string_view body, const ApiLimits& limits) {
  HYLAS_ASSIGN(object from, json::parse_object(body, "the request body"));
  std::vector<std::string_view> known(std::begin(kChatNames), std::end(kChatNames));
  auto sampling_names = sampling_field_names(ApiKind::kOpenAi);
  known.insert(known.end(), sampling_names.begin(), sampling_names.end());
  HYLAS_TRY(check_fields(from, known));

  ChatRequest request;
  HYLAS_ASSIGN(request.generation, parse_sampling(from, ApiKind::kOpenAi, limits));
  HYLAS_ASSIGN(request.generation.bootstrap, parse_bootstrap(from));
  HYLAS_ASSIGN(request.prompt, parse_chat_prompt(from));
  HYLAS_ASSIGN(request.tool_choice, parse_tool_choice(from, request.prompt.tools));
  HYLAS_TRY(apply_tool_choice(request));
  HYLAS_TRY(parse_logprobs(from, request.generation.sampling));
  HYLAS_ASSIGN(request.stream, parse_stream_fields(from));
  HYLAS_ASSIGN(auto parallel, json::optional_bool(from, "parallel_tool_calls"));
  request.parallel_tool_calls = parallel.value_or(true);
  HYLAS_ASSIGN(auto separate, json::optional_bool(from, "separate_reasoning"));
  request.separate_reasoning = separate.value_or(true);
  HYLAS_ASSIGN(auto stream_reasoning, json::optional_bool(from, "stream_reasoning"));
  request.stream_reasoning = stream_reasoning.value_or(true);
  HYLAS_ASSIGN(auto id, json::optional_string(from, "rid"));
  request.request_id = id.value_or("");
  return request;
}

}  // namespace hylas
