#include "serve/sampling_fields.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "base/json.h"
#include "serve/constraint_fields.h"

namespace hylas {
namespace {

using json::object;

constexpr std::string_view kOpenAiNames[] = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "min_tokens",
    "max_tokens",
    "max_completion_tokens",
    "ignore_eos",
    "n",
    "skip_special_tokens",
    "no_stop_trim",
    "include_stop_str_in_output",
    "response_format",
    "json_schema",
    "regex",
    "ebnf",
};
constexpr std::string_view kNativeNames[] = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "sampling_seed",
    "seed",
    "stop",
    "stop_token_ids",
    "min_new_tokens",
    "max_new_tokens",
    "ignore_eos",
    "n",
    "skip_special_tokens",
    "no_stop_trim",
    "json_schema",
    "regex",
    "ebnf",
};
constexpr size_t kStopStringsMax = 64;
constexpr size_t kStopStringBytesMax = 4096;
constexpr size_t kLogitBiasMax = 4096;
constexpr int64_t kTokensMax = 1 << 30;

// Reads the fields of one object, so that the object and its path are named once.
struct Fields {
  const object& from;
  std::string_view path;

  std::string name(std::string_view key) const { return json::field_path(path, key); }

  Status number(std::string_view key, float& into, double low, double high, bool low_allowed = true) const {
    HYLAS_ASSIGN(auto given, json::optional_number(from, key, path));
    if (!given) return {};
    if (*given < low || *given > high || (*given == low && !low_allowed)) {
      std::string range = std::isinf(high)
                              ? fmt::format("at least {}", low)
                              : fmt::format("{} {} and at most {}", low_allowed ? "at least" : "above", low, high);
      return error(ErrorCode::kInvalid, "`{}` must be {}, not {}", name(key), range, *given);
    }
    into = float(*given);
    return {};
  }

  Result<std::optional<int32_t>> integer(std::string_view key, int64_t low, int64_t high) const {
    HYLAS_ASSIGN(auto given, json::optional_int(from, key, path));
    if (!given) return std::optional<int32_t>();
    if (*given < low || *given > high) {
      return error(ErrorCode::kInvalid, "`{}` must be from {} to {}, not {}", name(key), low, high, *given);
    }
    return std::optional(int32_t(*given));
  }

  Status flag(std::string_view key, bool& into) const {
    HYLAS_ASSIGN(auto given, json::optional_bool(from, key, path));
    if (given) into = *given;
    return {};
  }
};

Status parse_probabilities(const Fields& fields, SamplingParams& sampling) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  HYLAS_TRY(fields.number("temperature", sampling.temperature, 0, kInfinity));
  if (sampling.temperature < 1e-6f) sampling.temperature = 0;  // greedy
  HYLAS_TRY(fields.number("top_p", sampling.top_p, 0, 1, false));
  HYLAS_TRY(fields.number("min_p", sampling.min_p, 0, 1));
  HYLAS_TRY(fields.number("frequency_penalty", sampling.frequency_penalty, -2, 2));
  HYLAS_TRY(fields.number("presence_penalty", sampling.presence_penalty, -2, 2));
  HYLAS_TRY(fields.number("repetition_penalty", sampling.repetition_penalty, 0, 2, false));
  HYLAS_ASSIGN(auto top_k, fields.integer("top_k", -1, kTokensMax));
  if (top_k == 0) return error(ErrorCode::kInvalid, "`{}` must be -1 (all) or at least 1, not 0", fields.name("top_k"));
  if (top_k) sampling.top_k = *top_k;
  return {};
}

Status parse_seed(const Fields& fields, ApiKind api, SamplingParams& sampling) {
  for (std::string_view key : {"seed", "sampling_seed"}) {
    if (api == ApiKind::kOpenAi && key == "sampling_seed") continue;
    HYLAS_ASSIGN(auto seed, json::optional_int(fields.from, key, fields.path));
    if (seed) sampling.seed = uint64_t(*seed);
  }
  return {};
}

Status parse_lengths(const Fields& fields, ApiKind api, GenerationRequest& request) {
  bool openai = api == ApiKind::kOpenAi;
  HYLAS_ASSIGN(request.max_new_tokens, fields.integer(openai ? "max_tokens" : "max_new_tokens", 1, kTokensMax));
  if (openai) {
    HYLAS_ASSIGN(auto newer_name, fields.integer("max_completion_tokens", 1, kTokensMax));
    if (newer_name) request.max_new_tokens = newer_name;
  }
  std::string_view min_name = openai ? "min_tokens" : "min_new_tokens";
  HYLAS_ASSIGN(auto min_tokens, fields.integer(min_name, 0, kTokensMax));
  request.sampling.min_new_tokens = min_tokens.value_or(0);
  if (request.max_new_tokens && request.sampling.min_new_tokens > *request.max_new_tokens) {
    return error(ErrorCode::kInvalid, "`{}` is {}, above the most tokens asked for, {}", fields.name(min_name),
                 request.sampling.min_new_tokens, *request.max_new_tokens);
  }
  HYLAS_ASSIGN(auto copies, fields.integer("n", 1, 128));
  request.n = copies.value_or(1);
  return {};
}

Status add_stop(const Fields& fields, const json::value& item, std::vector<std::string>& stop) {
  const auto* text = item.if_string();
  if (!text) return json::wrong_kind(fields.name("stop"), "a string or an array of strings", item);
  if (text->empty()) return error(ErrorCode::kInvalid, "`{}` has an empty string", fields.name("stop"));
  if (text->size() > kStopStringBytesMax) {
    return error(ErrorCode::kInvalid, "`{}` has a string of {} bytes; at most {} are allowed", fields.name("stop"),
                 text->size(), kStopStringBytesMax);
  }
  stop.emplace_back(text->data(), text->size());
  return {};
}

Status parse_stop(const Fields& fields, GenerationRequest& request) {
  const json::value* stop = fields.from.if_contains("stop");
  if (!stop || stop->is_null() || (stop->is_string() && stop->as_string().empty())) return {};
  const auto* items = stop->if_array();
  if (!items) return add_stop(fields, *stop, request.stop);
  if (items->size() > kStopStringsMax) {
    return error(ErrorCode::kInvalid, "`{}` has {} strings; at most {} are allowed", fields.name("stop"), items->size(),
                 kStopStringsMax);
  }
  for (const json::value& item : *items) HYLAS_TRY(add_stop(fields, item, request.stop));
  return {};
}

Status check_token(int64_t id, std::string_view field, int32_t vocab_size) {
  if (id >= 0 && id < vocab_size) return {};
  return error(ErrorCode::kInvalid, "`{}` has the token id {}; ids are from 0 to {}", field, id, vocab_size - 1);
}

Status parse_stop_ids(const Fields& fields, int32_t vocab_size, SamplingParams& sampling) {
  HYLAS_ASSIGN(const json::array* ids, json::optional_array(fields.from, "stop_token_ids", fields.path));
  if (!ids) return {};
  std::string name = fields.name("stop_token_ids");
  if (ids->size() > kStopStringsMax) {
    return error(ErrorCode::kInvalid, "`{}` has {} ids; at most {} are allowed", name, ids->size(), kStopStringsMax);
  }
  for (const json::value& item : *ids) {
    if (!item.is_int64()) return json::wrong_kind(name, "an array of integers", item);
    HYLAS_TRY(check_token(item.as_int64(), name, vocab_size));
    sampling.stop_token_ids.push_back(int32_t(item.as_int64()));
  }
  return {};
}

Status parse_logit_bias(const Fields& fields, int32_t vocab_size, SamplingParams& sampling) {
  HYLAS_ASSIGN(const object* biases, json::optional_object(fields.from, "logit_bias", fields.path));
  if (!biases) return {};
  std::string name = fields.name("logit_bias");
  if (biases->size() > kLogitBiasMax) {
    return error(ErrorCode::kInvalid, "`{}` has {} ids; at most {} are allowed", name, biases->size(), kLogitBiasMax);
  }
  for (const auto& [key, value] : *biases) {
    int64_t id = -1;
    auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (problem != std::errc() || end != key.data() + key.size()) {
      return error(ErrorCode::kInvalid, "`{}` maps token ids to numbers; \"{}\" is no token id", name,
                   std::string_view(key.data(), key.size()));
    }
    HYLAS_TRY(check_token(id, name, vocab_size));
    double bias = value.is_number() ? value.to_number<double>() : NAN;
    if (!(bias >= -100 && bias <= 100)) {
      return error(ErrorCode::kInvalid, "`{}.{}` must be a number from -100 to 100", name, id);
    }
    sampling.logit_bias.push_back({int32_t(id), float(bias)});
  }
  return {};
}

}  // namespace

std::span<const std::string_view> sampling_field_names(ApiKind api) {
  if (api == ApiKind::kOpenAi) return kOpenAiNames;
  return kNativeNames;
}

Result<GenerationRequest> parse_sampling(const object& from, ApiKind api, const ApiLimits& limits,
                                         std::string_view path) {
  GenerationRequest request;
  request.sampling = limits.defaults;
  Fields fields{from, path};
  HYLAS_TRY(parse_probabilities(fields, request.sampling));
  HYLAS_TRY(parse_seed(fields, api, request.sampling));
  HYLAS_TRY(parse_lengths(fields, api, request));
  HYLAS_TRY(parse_stop(fields, request));
  HYLAS_TRY(parse_stop_ids(fields, limits.vocab_size, request.sampling));
  HYLAS_TRY(parse_logit_bias(fields, limits.vocab_size, request.sampling));
  HYLAS_TRY(fields.flag("ignore_eos", request.sampling.ignore_eos));
  HYLAS_TRY(fields.flag("skip_special_tokens", request.skip_special_tokens));
  HYLAS_TRY(fields.flag("no_stop_trim", request.include_stop));
  if (api == ApiKind::kOpenAi) HYLAS_TRY(fields.flag("include_stop_str_in_output", request.include_stop));
  HYLAS_ASSIGN(request.constraint, parse_constraint(from, path));
  return request;
}

}  // namespace hylas
