#include "text/argument_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/json.h"
#include "text/json_escape.h"
#include "text/tool_schema.h"

namespace hylas {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  size_t first = std::min(text.find_first_not_of(kSpaces), text.size());
  return text.substr(first, text.find_last_not_of(kSpaces) + 1 - first);
}

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a | 0x20 : a) == b; });
}

// The number as JSON: its own digits where they are JSON already. whole: it must be an integer.
std::optional<std::string> number_json(std::string_view text, bool whole) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const char* end = text.data() + text.size();
  int64_t integer = 0;
  if (auto parsed = std::from_chars(text.data(), end, integer); parsed.ec == std::errc() && parsed.ptr == end) {
    return std::to_string(integer);
  }
  double real = 0;
  auto parsed = std::from_chars(text.data(), end, real);
  if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(real)) return std::nullopt;
  if (whole && real != std::floor(real)) return std::nullopt;
  if (whole && std::fabs(real) < 1e15) return std::to_string(static_cast<int64_t>(real));
  return json::parse(text) ? std::string(text) : fmt::format("{}", real);
}

std::optional<std::string> container_json(std::string_view text, unsigned types) {
  bool opens = (types & kObjectType && text.starts_with('{')) || (types & kArrayType && text.starts_with('[')) ||
               (types & kArrayType && text.starts_with('('));
  if (!opens) return std::nullopt;
  if (json::parse(text)) return std::string(text);
  std::optional<std::string> converted = json_of_python_literal(text);
  return converted && json::parse(*converted) ? converted : std::nullopt;
}

}  // namespace

std::string argument_json(std::string_view text, unsigned types) {
  std::string_view bare = trimmed(text);
  bool only_string = types == kStringType;
  if (!only_string && equals_ignoring_case(bare, "null")) return "null";
  if (types & kBooleanType) {
    if (equals_ignoring_case(bare, "true") || (bare == "1" && types == kBooleanType)) return "true";
    if (equals_ignoring_case(bare, "false") || (bare == "0" && types == kBooleanType)) return "false";
  }
  if (types & (kIntegerType | kNumberType)) {
    if (std::optional<std::string> number = number_json(bare, !(types & kNumberType))) return *number;
  }
  if (std::optional<std::string> container = container_json(bare, types)) return *container;
  std::string quoted = "\"";
  append_json_escaped(text, quoted);
  return quoted + '"';
}

}  // namespace hylas
