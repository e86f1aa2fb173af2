#pragma once
// Template source to a syntax tree.
#include <string_view>

#include "text/jinja/ast.h"

namespace hylas::jinja {

// Throws TemplateError with the line of what is wrong or not supported.
Template parse_template(std::string_view source);

}  // namespace hylas::jinja
