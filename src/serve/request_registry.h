#pragma once
// Which request ids of clients are running, for /abort_request.
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace hylas {

// Thread-safe.
class RequestRegistry {
 public:
  void add(const std::string& name, RequestId id);
  void remove(const std::string& name, RequestId id);
  // The running requests of that name: one for each copy.
  std::vector<RequestId> find(const std::string& name) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_multimap<std::string, RequestId> running_;
};

}  // namespace hylas
