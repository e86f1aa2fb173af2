#pragma once
// JSON from outside: parsing with limits, and typed reading of objects with errors that name the field. Thread-safe.
// Values are boost.json's; objects keep the order of their keys.
#include <boost/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hylas::json {

using boost::json::array;
using boost::json::object;
using boost::json::value;

struct ParseLimits {
  size_t depth_max = 64;                // nested objects and arrays
  size_t bytes_max = size_t{64} << 20;  // of text
};

// Strict JSON in UTF-8 (RFC 8259). The error is kInvalid and says what is wrong, with line and column (both from 1, the
// column in bytes).
Result<value> parse(std::string_view text, const ParseLimits& limits = {});

// The same for text whose top must be an object; `what` names the text in errors ("the request body").
Result<object> parse_object(std::string_view text, std::string_view what, const ParseLimits& limits = {});

// "null", "a boolean", "an integer", "a number", "a string", "an array" or "an object".
const char* kind_name(const value& found);

// Reading a field. `path` is where the object itself stands, for errors: with key "role" and path "messages[2]" they
// name `messages[2].role`; an empty path is the top. Views and pointers live as long as the object. require_*: the
// field must be there. optional_*: an absent or null field is nullopt (nullptr). A wrong type is kInvalid. Integers are
// int64; 3.0 counts as the integer 3. Numbers are finite doubles, integers included.
Result<std::string_view> require_string(const object& from, std::string_view key, std::string_view path = {});
Result<int64_t> require_int(const object& from, std::string_view key, std::string_view path = {});
Result<double> require_number(const object& from, std::string_view key, std::string_view path = {});
Result<bool> require_bool(const object& from, std::string_view key, std::string_view path = {});
Result<const array*> require_array(const object& from, std::string_view key, std::string_view path = {});
Result<const object*> require_object(const object& from, std::string_view key, std::string_view path = {});

Result<std::optional<std::string_view>> optional_string(const object& from, std::string_view key,
                                                        std::string_view path = {});
Result<std::optional<int64_t>> optional_int(const object& from, std::string_view key, std::string_view path = {});
Result<std::optional<double>> optional_number(const object& from, std::string_view key, std::string_view path = {});
Result<std::optional<bool>> optional_bool(const object& from, std::string_view key, std::string_view path = {});
Result<const array*> optional_array(const object& from, std::string_view key, std::string_view path = {});
Result<const object*> optional_object(const object& from, std::string_view key, std::string_view path = {});

// "path.key", or "key" at the top.
std::string field_path(std::string_view path, std::string_view key);
// kInvalid "`field` must be <wanted>, not <what it is>".
Error wrong_kind(std::string_view field, const char* wanted, const value& found);

}  // namespace hylas::json
