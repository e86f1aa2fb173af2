#include "text/jinja/arguments.h"

#include <algorithm>

namespace hylas::jinja {

void Arguments::expect(std::string_view callee, std::initializer_list<std::string_view> names,
                       const Runtime& runtime) const {
  if (positional.size() > names.size()) {
    runtime.error("{} takes at most {} arguments, not {}", callee, names.size(), positional.size());
  }
  for (const auto& [name, value] : named) {
    auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) runtime.error("{} has no parameter '{}'", callee, name);
    if (static_cast<size_t>(found - names.begin()) < positional.size()) {
      runtime.error("{} got its parameter '{}' twice", callee, name);
    }
  }
}

const Value* Arguments::get(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& argument : named) {
    if (argument.first == name) return &argument.second;
  }
  return nullptr;
}

std::string Arguments::text(size_t index, std::string_view name, std::string_view otherwise,
                            const Runtime& runtime) const {
  const Value* value = get(index, name);
  if (!value) return std::string(otherwise);
  if (!value->is_string()) runtime.error("argument '{}' must be a string, not a {}", name, value->type_name());
  return value->as_string();
}

int64_t Arguments::integer(size_t index, std::string_view name, int64_t otherwise, const Runtime& runtime) const {
  const Value* value = get(index, name);
  if (!value) return otherwise;
  if (!value->is_int() && !value->is_bool()) {
    runtime.error("argument '{}' must be an integer, not a {}", name, value->type_name());
  }
  return value->as_int();
}

bool Arguments::flag(size_t index, std::string_view name, bool otherwise) const {
  const Value* value = get(index, name);
  return value ? value->truthy() : otherwise;
}

const Value& Arguments::require(size_t index, std::string_view name, const Runtime& runtime) const {
  const Value* value = get(index, name);
  if (!value) runtime.error("argument '{}' is missing", name);
  return *value;
}

}  // namespace hylas::jinja
