#pragma once
// Which floor may include which: the one table of the architecture's order.
#include <map>
#include <set>
#include <string>

namespace hylas::tidy {

// Floor of src/ -> the floors whose headers it may include, besides its own. Lower ones only; serve never sees a
// tensor, and the transfer of states knows no model.
inline const std::map<std::string, std::set<std::string>>& allowed_floors() {
  static const std::map<std::string, std::set<std::string>> kAllowed = {
      {"base", {}},
      {"text", {"base"}},
      {"tensor", {"base"}},
      {"ops", {"base", "tensor"}},
      {"comm", {"base", "tensor"}},
      {"weights", {"base", "tensor", "ops", "comm"}},
      {"cache", {"base", "tensor", "comm"}},
      {"model", {"base", "tensor", "ops", "comm", "weights", "cache"}},
      {"transfer", {"base", "tensor", "comm", "cache"}},
      {"engine", {"base", "text", "tensor", "ops", "comm", "weights", "cache", "model", "transfer"}},
      {"serve", {"base", "text", "engine"}},
      {"app", {"base", "text", "tensor", "ops", "comm", "weights", "cache", "model", "transfer", "engine", "serve"}},
  };
  return kAllowed;
}

}  // namespace hylas::tidy
