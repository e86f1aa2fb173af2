// Filters on text and numbers.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/text_functions.h"

namespace hylas::jinja {
namespace {

Value filter_trim(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("trim", {"chars"}, runtime);
  std::string text = to_text(input, runtime);
  const Value* given = arguments.get(0, "chars");
  if (!given || given->is_none()) return make_text(std::string(strip(text, Side::kBoth, nullptr)), runtime);
  std::string chars = arguments.text(0, "chars", {}, runtime);
  return make_text(std::string(strip(text, Side::kBoth, &chars)), runtime);
}

template <std::string (*convert)(std::string_view)>
Value filter_case(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("the filter", {}, runtime);
  return make_text(convert(to_text(input, runtime)), runtime);
}

Value filter_replace(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("replace", {"old", "new", "count"}, runtime);
  std::string from = to_text(arguments.require(0, "old", runtime), runtime);
  std::string to = to_text(arguments.require(1, "new", runtime), runtime);
  int64_t count = arguments.integer(2, "count", -1, runtime);
  return make_text(replace(to_text(input, runtime), from, to, count, runtime.limits.bytes_max), runtime);
}

Value filter_string(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("string", {}, runtime);
  return make_text(to_text(input, runtime), runtime);
}

// Nothing is escaped in chat templates, so there is nothing to mark.
Value filter_safe(const Value& input, const Arguments& arguments, Runtime& runtime) {
  return filter_string(input, arguments, runtime);
}

Value filter_tojson(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, runtime);
  JsonStyle style;
  style.ascii_only = arguments.flag(0, "ensure_ascii", false);
  style.sort_keys = arguments.flag(3, "sort_keys", false);
  if (const Value* indent = arguments.get(1, "indent"); indent && !indent->is_none()) {
    int64_t width = indent->is_string() ? 0 : std::clamp<int64_t>(arguments.integer(1, "indent", 0, runtime), 0, 64);
    style.indent = indent->is_string() ? indent->as_string() : std::string(width, ' ');
    style.item_separator = ",";
  }
  if (const Value* separators = arguments.get(2, "separators"); separators && !separators->is_none()) {
    if (!separators->is_list() || separators->as_list().items.size() != 2 ||
        !separators->as_list().items[0].is_string() || !separators->as_list().items[1].is_string()) {
      runtime.error("tojson needs two strings as separators");
    }
    style.item_separator = separators->as_list().items[0].as_string();
    style.key_separator = separators->as_list().items[1].as_string();
  }
  return make_text(to_json(input, style, runtime), runtime);
}

Value filter_indent(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("indent", {"width", "first", "blank"}, runtime);
  const Value* width = arguments.get(0, "width");
  std::string margin = width && width->is_string()
                           ? width->as_string()
                           : std::string(std::clamp<int64_t>(arguments.integer(0, "width", 4, runtime), 0, 256), ' ');
  bool first = arguments.flag(1, "first", false), blank = arguments.flag(2, "blank", false);
  std::string text = to_text(input, runtime), out;
  for (size_t begin = 0, line = 0; begin <= text.size(); ++line) {
    size_t end = std::min(text.find('\n', begin), text.size());
    if ((line > 0 || first) && (blank || end > begin)) out += margin;
    out.append(text, begin, end - begin + 1);
    begin = end + 1;
    runtime.tick();
    if (out.size() > runtime.limits.bytes_max) runtime.check_bytes(out.size());
  }
  return make_text(std::move(out), runtime);
}

Value filter_int(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("int", {"default", "base"}, runtime);
  int64_t otherwise = arguments.integer(0, "default", 0, runtime);
  int64_t base = arguments.integer(1, "base", 10, runtime);
  if (base < 2 || base > 36) runtime.error("int has no base {}", base);
  if (input.is_bool() || input.is_int()) return input.as_int();
  double real = 0;
  if (input.is_float()) {
    real = input.as_double();
  } else if (input.is_string()) {
    std::string_view text = strip(input.as_string(), Side::kBoth, nullptr);
    if (text.starts_with('+')) text.remove_prefix(1);
    int64_t integer = 0;
    const char* end = text.data() + text.size();
    auto parsed = std::from_chars(text.data(), end, integer, static_cast<int>(base));
    if (parsed.ec == std::errc() && parsed.ptr == end) return integer;
    auto as_real = std::from_chars(text.data(), end, real);
    if (as_real.ec != std::errc() || as_real.ptr != end) return otherwise;
  } else {
    return otherwise;
  }
  return std::fabs(real) < 9e18 ? static_cast<int64_t>(real) : otherwise;
}

Value filter_float(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("float", {"default"}, runtime);
  if (input.is_number()) return input.as_double();
  const Value* given = arguments.get(0, "default");
  Value otherwise = given ? *given : Value(0.0);
  if (!input.is_string()) return otherwise;
  std::string_view text = strip(input.as_string(), Side::kBoth, nullptr);
  if (text.starts_with('+')) text.remove_prefix(1);
  double real = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), real);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? Value(real) : otherwise;
}

Value filter_abs(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("abs", {}, runtime);
  if (!input.is_number()) runtime.error("abs needs a number, not a {}", input.type_name());
  return input.as_double() < 0 ? negate(input, runtime) : input;
}

Value filter_round(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("round", {"precision", "method"}, runtime);
  if (!input.is_number()) runtime.error("round needs a number, not a {}", input.type_name());
  double scale = std::pow(10.0, static_cast<double>(arguments.integer(0, "precision", 0, runtime)));
  std::string method = arguments.text(1, "method", "common", runtime);
  double scaled = input.as_double() * scale;
  if (method == "ceil") return std::ceil(scaled) / scale;
  if (method == "floor") return std::floor(scaled) / scale;
  if (method != "common") runtime.error("round has no method '{}'", method);
  return std::nearbyint(scaled) / scale;
}

}  // namespace

Filter find_text_filter(std::string_view name) {
  constexpr std::pair<std::string_view, Filter> kFilters[] = {
      {"trim", filter_trim},
      {"upper", filter_case<upper>},
      {"lower", filter_case<lower>},
      {"capitalize", filter_case<capitalize>},
      {"title", filter_case<title_filter>},
      {"replace", filter_replace},
      {"string", filter_string},
      {"safe", filter_safe},
      {"tojson", filter_tojson},
      {"indent", filter_indent},
      {"int", filter_int},
      {"float", filter_float},
      {"abs", filter_abs},
      {"round", filter_round},
  };
  for (const auto& [known, filter] : kFilters) {
    if (name == known) return filter;
  }
  return nullptr;
}

}  // namespace hylas::jinja
