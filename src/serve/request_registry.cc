#include "serve/request_registry.h"

namespace hylas {

void RequestRegistry::add(const std::string& name, RequestId id) {
  std::lock_guard lock(mutex_);
  running_.emplace(name, id);
}

void RequestRegistry::remove(const std::string& name, RequestId id) {
  std::lock_guard lock(mutex_);
  auto [begin, end] = running_.equal_range(name);
  for (auto it = begin; it != end; ++it) {
    if (it->second != id) continue;
    running_.erase(it);
    return;
  }
}

std::vector<RequestId> RequestRegistry::find(const std::string& name) const {
  std::lock_guard lock(mutex_);
  std::vector<RequestId> ids;
  auto [begin, end] = running_.equal_range(name);
  for (auto it = begin; it != end; ++it) ids.push_back(it->second);
  return ids;
}

}  // namespace hylas
