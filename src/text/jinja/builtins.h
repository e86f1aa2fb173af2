#pragma once
// What templates can call: filters, tests, methods of strings and dictionaries, and functions. Null: there is none of
// that name.
#include <string_view>

#include "text/jinja/arguments.h"
#include "text/jinja/ast.h"

namespace hylas::jinja {

Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
Function find_function(std::string_view name);

bool is_method(std::string_view name);
// object.name(arguments), where is_method(name).
Value call_method(const Value& object, std::string_view name, const Arguments& arguments, Runtime& runtime);

// The parts of find_filter, one per file.
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);
Filter find_selection_filter(std::string_view name);

}  // namespace hylas::jinja
