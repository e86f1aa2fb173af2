#include "serve/native_request.h"

#include "base/json.h"
#include "serve/bootstrap_fields.h"
#include "serve/field_check.h"
#include "serve/sampling_fields.h"

namespace hylas {
namespace {

using json::object;
using json::value;

constexpr int64_t kTopLogprobsMax = 256;
constexpr int32_t kDefaultTokens = 128;
constexpr std::string_view kNativeNames[] = {"text",   "input_ids",      "sampling_params",   "rid",
                                             "stream", "return_logprob", "logprob_start_len", "top_logprobs_num"};

// The value of a field for item i: the field itself, or its i-th element if it is a list with one for each item.
Result<const value*> of_item(const object& from, std::string_view key, size_t i, size_t items) {
  const value* found = from.if_contains(key);
  if (!found || found->is_null()) return static_cast<const value*>(nullptr);
  const json::array* list = found->if_array();
  if (!list) return found;
  if (list->size() != items) {
    return error(ErrorCode::kInvalid, "`{}` has {} elements for {} prompts", key, list->size(), items);
  }
  return &(*list)[i];
}

Status read_flag(const value* found, std::string_view key, bool& into) {
  if (!found) return {};
  if (!found->is_bool()) return json::wrong_kind(key, "a boolean", *found);
  into = found->as_bool();
  return {};
}

Status read_int(const value* found, std::string_view key, int64_t low, int64_t high, int32_t& into) {
  if (!found) return {};
  if (!found->is_int64()) return json::wrong_kind(key, "an integer", *found);
  if (found->as_int64() < low || found->as_int64() > high) {
    return error(ErrorCode::kInvalid, "`{}` must be from {} to {}, not {}", key, low, high, found->as_int64());
  }
  into = int32_t(found->as_int64());
  return {};
}

Status read_logprobs(const object& from, size_t i, size_t items, NativeItem& item) {
  HYLAS_ASSIGN(const value* wanted, of_item(from, "return_logprob", i, items));
  HYLAS_TRY(read_flag(wanted, "return_logprob", item.return_logprob));
  HYLAS_ASSIGN(const value* start, of_item(from, "logprob_start_len", i, items));
  HYLAS_TRY(read_int(start, "logprob_start_len", -1, INT32_MAX, item.logprob_start));
  HYLAS_ASSIGN(const value* top, of_item(from, "top_logprobs_num", i, items));
  int32_t top_logprobs = 0;
  HYLAS_TRY(read_int(top, "top_logprobs_num", 0, kTopLogprobsMax, top_logprobs));
  if (!item.return_logprob) return {};
  item.generation.sampling.top_logprobs = top_logprobs;
  item.generation.sampling.prompt_logprobs_from = item.logprob_start;
  return {};
}

Result<GenerationRequest> read_sampling(const value* params, const ApiLimits& limits) {
  static const object kNone;
  if (params && !params->is_object()) return json::wrong_kind("sampling_params", "an object", *params);
  const object& from = params ? params->as_object() : kNone;
  HYLAS_TRY(check_fields(from, sampling_field_names(ApiKind::kNative), "sampling_params"));
  HYLAS_ASSIGN(auto generation, parse_sampling(from, ApiKind::kNative, limits, "sampling_params"));
  if (!generation.max_new_tokens)
    generation.max_new_tokens = std::max(kDefaultTokens, generation.sampling.min_new_tokens);
  return generation;
}

Result<NativeItem> parse_item(const object& from, PromptInput prompt, size_t i, size_t items, const ApiLimits& limits) {
  NativeItem item{.prompt = std::move(prompt)};
  HYLAS_ASSIGN(const value* params, of_item(from, "sampling_params", i, items));
  HYLAS_ASSIGN(item.generation, read_sampling(params, limits));
  HYLAS_TRY(read_logprobs(from, i, items, item));
  HYLAS_ASSIGN(const value* id, of_item(from, "rid", i, items));
  if (id && !id->is_string()) return json::wrong_kind("rid", "a string", *id);
  if (id) item.request_id = std::string(id->as_string().data(), id->as_string().size());
  if (id && items > 1 && !from.at("rid").is_array()) item.request_id += fmt::format("_{}", i);
  return item;
}

}  // namespace

Result<NativeRequest> parse_native(std::string_view body, const ApiLimits& limits) {
  HYLAS_ASSIGN(object from, json::parse_object(body, "the request body"));
  HYLAS_TRY(check_fields(from, kNativeNames));
  const value* text = from.if_contains("text");
  const value* ids = from.if_contains("input_ids");
  bool has_text = text && !text->is_null(), has_ids = ids && !ids->is_null();
  if (has_text == has_ids) return error(ErrorCode::kInvalid, "`text` or `input_ids` is required, and only one of them");
  std::string_view field = has_text ? "text" : "input_ids";
  HYLAS_ASSIGN(PromptList list, parse_prompts(has_text ? *text : *ids, field, limits.vocab_size));
  for (const PromptInput& prompt : list.prompts) {
    if (std::holds_alternative<std::string>(prompt) != has_text) {
      return error(ErrorCode::kInvalid, "`{}` must be {}", field,
                   has_text ? "a string or an array of strings" : "token ids");
    }
  }
  NativeRequest request;
  for (size_t i = 0; i < list.prompts.size(); ++i) {
    HYLAS_ASSIGN(NativeItem item, parse_item(from, std::move(list.prompts[i]), i, list.prompts.size(), limits));
    HYLAS_ASSIGN(item.generation.bootstrap, parse_bootstrap(from));
    request.is_list = request.is_list || list.is_list || item.generation.n > 1;
    request.items.push_back(std::move(item));
  }
  HYLAS_ASSIGN(auto stream, json::optional_bool(from, "stream"));
  request.stream = stream.value_or(false);
  return request;
}

}  // namespace hylas
