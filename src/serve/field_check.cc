#include "serve/field_check.h"

#include <algorithm>

#include "base/json.h"

namespace hylas {
namespace {

// Bookkeeping, hints on speed, and what this server does in any case.
constexpr std::string_view kHarmless[] = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prediction",
    "priority",
    "cache_salt",
    "extra_key",
    "session_id",
    "request_id",
    "modality",
    "model",
    "log_metrics",
    "spaces_between_special_tokens",
    "prompt_cache_retention",
    "data_parallel_rank",
    "return_text_in_logprobs",
    // A router's; read where the whole body is (bootstrap_fields.h).
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
};

struct Unsupported {
  std::string_view name;
  const char* why;
};
constexpr Unsupported kUnsupported[] = {
    {"lora_path", "this server has no LoRA adapters"},
    {"custom_logit_processor", "this server runs no code of clients"},
    {"custom_params", "this server runs no code of clients"},
    {"logits_processors", "this server runs no code of clients"},
    {"logit_processors", "this server runs no code of clients"},
    {"image_data", "this server takes text only"},
    {"video_data", "this server takes text only"},
    {"audio_data", "this server takes text only"},
    {"audio", "this server writes text only"},
    {"modalities", "this server writes text only"},
    {"input_embeds", "give text or token ids"},
    {"return_hidden_states", "hidden states are not returned"},
    {"return_routed_experts", "routed experts are not returned"},
    {"token_ids_logprob", "use top_logprobs_num"},
    {"stop_regex", "use stop"},
    {"structural_tag", "use json_schema, regex or ebnf"},
    {"suffix", "the model does not fill in the middle"},
    {"functions", "use tools"},
    {"function_call", "use tool_choice"},
    {"web_search_options", "this server has no tools of its own"},
    {"continue_final_message", "use /v1/completions with the rendered prompt"},
    {"session_params", "this server keeps no sessions"},
};

// A value that asks for nothing.
bool asks_nothing(const boost::json::value& value) {
  if (const bool* flag = value.if_bool()) return !*flag;
  if (const auto* text = value.if_string()) return text->empty();
  if (const auto* items = value.if_array()) {
    return items->empty() || (items->size() == 1 && items->front() == "text");  // modalities: ["text"]
  }
  return value.is_null();
}

}  // namespace

Status check_fields(const boost::json::object& from, std::span<const std::string_view> known, std::string_view path) {
  for (const auto& [key, value] : from) {
    std::string_view name(key.data(), key.size());
    if (value.is_null() || std::ranges::find(known, name) != known.end()) continue;
    if (std::ranges::find(kHarmless, name) != std::end(kHarmless)) continue;
    const auto* refused = std::ranges::find(kUnsupported, name, &Unsupported::name);
    if (refused == std::end(kUnsupported)) {
      return error(ErrorCode::kInvalid, "`{}` is not a field that this server knows", json::field_path(path, name));
    }
    if (asks_nothing(value)) continue;
    return error(ErrorCode::kUnsupported, "`{}` is not supported: {}", json::field_path(path, name), refused->why);
  }
  return {};
}

}  // namespace hylas
