#pragma once
// Template source to tokens, with Hugging Face's settings: trim_blocks and lstrip_blocks on.
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace hylas::jinja {

struct Token {
  enum class Kind {
    kText,           // between the tags, white space control applied
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kName,
    kNumber,    // literal is the value
    kString,    // literal is the value
    kOperator,  // text is the operator
    kEnd,
  };
  Kind kind;
  int line;
  std::string text;
  Value literal;

  bool is(std::string_view op) const { return kind == Kind::kOperator && text == op; }
  bool is_name(std::string_view name) const { return kind == Kind::kName && text == name; }
};

// Always ends with kEnd. Throws TemplateError.
std::vector<Token> tokenize(std::string_view source);

}  // namespace hylas::jinja
