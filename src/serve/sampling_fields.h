#pragma once
// The sampling fields of a request, with their ranges. The two APIs name a few of them differently.
#include <boost/json.hpp>
#include <span>
#include <string_view>

#include "base/result.h"
#include "serve/generation_request.h"

namespace hylas {

enum class ApiKind { kOpenAi, kNative };  // native: SGLang's sampling_params

// The fields that parse_sampling reads.
std::span<const std::string_view> sampling_field_names(ApiKind api);

// kInvalid: names the field and its range. Absent fields keep the defaults of `limits`; max_new_tokens stays unset.
// The constraint comes from response_format, json_schema, regex, ebnf, at most one of them.
Result<GenerationRequest> parse_sampling(const boost::json::object& from, ApiKind api, const ApiLimits& limits,
                                         std::string_view path = {});

}  // namespace hylas
