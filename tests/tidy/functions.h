#pragma once
// Finds function bodies by their braces. It knows the project's format (.clang-format), not all of C++.
#include <string_view>
#include <vector>

namespace hylas::tidy {

struct Function {
  int first_line = 0;  // of the signature, from 1
  int last_line = 0;   // of the closing brace
  int lines() const { return last_line - first_line + 1; }
};

// Every function of namespaces and classes in `code` (code_only's result), tests included, in the order of their ends;
// a lambda counts to the function around it.
std::vector<Function> find_functions(std::string_view code);

}  // namespace hylas::tidy
