#pragma once
// The arguments of a call to a filter, test, method or function.
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace hylas::jinja {

class Arguments {
 public:
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // Checks the call against the parameter names; `callee` for errors.
  void expect(std::string_view callee, std::initializer_list<std::string_view> names, const Runtime& runtime) const;
  // The argument for the parameter at `index` called `name`; null if it was not given.
  const Value* get(size_t index, std::string_view name) const;
  // The same with a type; the default where it was not given.
  std::string text(size_t index, std::string_view name, std::string_view otherwise, const Runtime& runtime) const;
  int64_t integer(size_t index, std::string_view name, int64_t otherwise, const Runtime& runtime) const;
  bool flag(size_t index, std::string_view name, bool otherwise) const;
  // An argument that must be there.
  const Value& require(size_t index, std::string_view name, const Runtime& runtime) const;
};

}  // namespace hylas::jinja
