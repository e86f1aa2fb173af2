#pragma once
// String literals of expressions, with Python's escapes.
#include <string>
#include <string_view>

namespace hylas::jinja {

// The text between the quotes with its escapes resolved. Throws TemplateError on a broken \x, \u or \U escape.
std::string unescape_literal(std::string_view body, int line);

}  // namespace hylas::jinja
