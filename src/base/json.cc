#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace hylas::json {
namespace {

Error parse_error(std::string_view text, size_t offset, const std::string& why) {
  std::string_view before = text.substr(0, offset);
  auto line = std::count(before.begin(), before.end(), '\n') + 1;
  size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return error(ErrorCode::kInvalid, "invalid JSON at line {}, column {}: {}", line, offset - line_start + 1, why);
}

std::optional<std::string_view> read_string(const value& found) {
  if (const auto* text = found.if_string()) return std::string_view(text->data(), text->size());
  return std::nullopt;
}

std::optional<int64_t> read_int(const value& found) {
  if (const auto* number = found.if_int64()) return *number;
  const auto* real = found.if_double();  // exact for whole doubles below 2^63
  if (real && std::trunc(*real) == *real && std::fabs(*real) < 9223372036854775808.0) return int64_t(*real);
  return std::nullopt;
}

std::optional<double> read_number(const value& found) {
  if (!found.is_number()) return std::nullopt;
  double number = found.to_number<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::optional<bool> read_bool(const value& found) {
  if (const auto* flag = found.if_bool()) return *flag;
  return std::nullopt;
}

std::optional<const array*> read_array(const value& found) {
  if (const auto* items = found.if_array()) return items;
  return std::nullopt;
}

std::optional<const object*> read_object(const value& found) {
  if (const auto* fields = found.if_object()) return fields;
  return std::nullopt;
}

template <class T>
Result<T> require(const object& from, std::string_view key, std::string_view path, const char* wanted,
                  std::optional<T> (*read)(const value&)) {
  const value* found = from.if_contains(key);
  if (!found) return error(ErrorCode::kInvalid, "`{}` is required: {}", field_path(path, key), wanted);
  if (auto got = read(*found)) return *got;
  return wrong_kind(field_path(path, key), wanted, *found);
}

template <class T>
Result<std::optional<T>> optional(const object& from, std::string_view key, std::string_view path, const char* wanted,
                                  std::optional<T> (*read)(const value&)) {
  const value* found = from.if_contains(key);
  if (!found || found->is_null()) return std::optional<T>();
  if (auto got = read(*found)) return got;
  return wrong_kind(field_path(path, key), wanted, *found);
}

template <class T>
Result<const T*> or_null(Result<std::optional<const T*>> found) {
  if (!found.ok()) return found.error();
  return found->value_or(nullptr);
}

}  // namespace

Result<value> parse(std::string_view text, const ParseLimits& limits) {
  if (text.size() > limits.bytes_max) {
    return error(ErrorCode::kInvalid, "the JSON text has {} bytes; at most {} are allowed", text.size(),
                 limits.bytes_max);
  }
  boost::json::parse_options options;
  options.max_depth = limits.depth_max;
  try {
    boost::json::parser parser({}, options);
    boost::system::error_code failure;
    size_t used = parser.write_some(text.data(), text.size(), failure);
    if (failure == boost::json::error::too_deep) {
      return parse_error(text, used, fmt::format("nested more than {} levels deep", limits.depth_max));
    }
    if (failure) return parse_error(text, used, failure.message());
    size_t rest = text.find_first_not_of(" \t\r\n", used);
    if (rest != std::string_view::npos) return parse_error(text, rest, "text follows the value");
    return parser.release();
  } catch (const std::exception& thrown) {  // std::bad_alloc, or a string or array beyond boost.json's own limits
    return error(ErrorCode::kExhausted, "cannot hold the JSON text of {} bytes: {}", text.size(), thrown.what());
  }
}

Result<object> parse_object(std::string_view text, std::string_view what, const ParseLimits& limits) {
  auto parsed = parse(text, limits);
  if (!parsed.ok()) return Error{parsed.error().code, fmt::format("{}: {}", what, parsed.error().message)};
  if (!parsed->is_object()) {
    return error(ErrorCode::kInvalid, "{} must be a JSON object, not {}", what, kind_name(*parsed));
  }
  return std::move(parsed->as_object());
}

const char* kind_name(const value& found) {
  switch (found.kind()) {
    case boost::json::kind::null:
      return "null";
    case boost::json::kind::bool_:
      return "a boolean";
    case boost::json::kind::int64:
    case boost::json::kind::uint64:
      return "an integer";
    case boost::json::kind::double_:
      return "a number";
    case boost::json::kind::string:
      return "a string";
    case boost::json::kind::array:
      return "an array";
    case boost::json::kind::object:
      return "an object";
  }
  return "unknown";
}

std::string field_path(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

Error wrong_kind(std::string_view field, const char* wanted, const value& found) {
  return error(ErrorCode::kInvalid, "`{}` must be {}, not {}", field, wanted,
               found.is_number() ? boost::json::serialize(found) : kind_name(found));
}

Result<std::string_view> require_string(const object& from, std::string_view key, std::string_view path) {
  return require(from, key, path, "a string", read_string);
}
Result<int64_t> require_int(const object& from, std::string_view key, std::string_view path) {
  return require(from, key, path, "an integer", read_int);
}
Result<double> require_number(const object& from, std::string_view key, std::string_view path) {
  return require(from, key, path, "a number", read_number);
}
Result<bool> require_bool(const object& from, std::string_view key, std::string_view path) {
  return require(from, key, path, "a boolean", read_bool);
}
Result<const array*> require_array(const object& from, std::string_view key, std::string_view path) {
  return require(from, key, path, "an array", read_array);
}
Result<const object*> require_object(const object& from, std::string_view key, std::string_view path) {
  return require(from, key, path, "an object", read_object);
}

Result<std::optional<std::string_view>> optional_string(const object& from, std::string_view key,
                                                        std::string_view path) {
  return optional(from, key, path, "a string", read_string);
}
Result<std::optional<int64_t>> optional_int(const object& from, std::string_view key, std::string_view path) {
  return optional(from, key, path, "an integer", read_int);
}
Result<std::optional<double>> optional_number(const object& from, std::string_view key, std::string_view path) {
  return optional(from, key, path, "a number", read_number);
}
Result<std::optional<bool>> optional_bool(const object& from, std::string_view key, std::string_view path) {
  return optional(from, key, path, "a boolean", read_bool);
}
Result<const array*> optional_array(const object& from, std::string_view key, std::string_view path) {
  return or_null(optional(from, key, path, "an array", read_array));
}
Result<const object*> optional_object(const object& from, std::string_view key, std::string_view path) {
  return or_null(optional(from, key, path, "an object", read_object));
}

}  // namespace hylas::json
