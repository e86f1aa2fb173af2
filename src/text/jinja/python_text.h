#pragma once
// Values as Python writes them: str(), repr() and json.dumps.
#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace hylas::jinja {

std::string float_text(double value);            // repr: 1.0, 0.1, 1e+16, inf
std::string string_repr(std::string_view text);  // quoted
std::string repr(const Value& value, Runtime& runtime);
// str(): strings as they are, undefined is empty, None, True, ['a', 1].
std::string to_text(const Value& value, Runtime& runtime);

struct JsonStyle {
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  std::optional<std::string> indent;  // of one level; nullopt: all on one line
  bool ascii_only = false;
  bool sort_keys = false;
};
// Python's json.dumps; ensure_ascii is off by default, as in Hugging Face's chat templates.
std::string to_json(const Value& value, const JsonStyle& style, Runtime& runtime);

}  // namespace hylas::jinja
