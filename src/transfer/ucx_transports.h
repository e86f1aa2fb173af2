#pragma once
// Lists of transports in the words of UCX_TLS: "^a,b" is everything but these.
#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace hylas {

inline bool allows_any_of(std::string_view transports, std::initializer_list<std::string_view> names) {
  const bool is_negated = transports.starts_with('^');
  if (is_negated) transports.remove_prefix(1);
  bool is_named = false;
  while (!transports.empty()) {
    const std::string_view name = transports.substr(0, transports.find(','));
    is_named |= std::find(names.begin(), names.end(), name) != names.end() || name == "all";
    transports.remove_prefix(std::min(name.size() + 1, transports.size()));
  }
  return is_named != is_negated;
}

}  // namespace hylas
