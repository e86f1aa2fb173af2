#pragma once
// Structured output: response_format, json_schema, regex and ebnf of a request.
#include <boost/json.hpp>
#include <string_view>

#include "base/result.h"
#include "serve/generation_request.h"

namespace hylas {

// At most one of the four may ask for something. json_schema may be text or an object. kInvalid / kUnsupported name the
// field. Whether the grammar itself is sound shows when it is compiled.
Result<OutputConstraint> parse_constraint(const boost::json::object& from, std::string_view path = {});

}  // namespace hylas
