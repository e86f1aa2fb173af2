#pragma once
// SwapStore: pages and slots of retracted sequences in host memory, by key.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "cache/state_pools.h"
#include "engine/step_plan.h"

namespace hylas {

// Not thread-safe: the rank's thread. Takes host memory when a sequence goes out and frees it when that comes back.
class SwapStore {
 public:
  void apply(const SwapOp& op, StatePools& pools);
  size_t sequences() const { return buffers_.size(); }

 private:
  struct Buffer {
    size_t pages = 0;
    std::unique_ptr<std::byte[]> bytes;  // the slot, then the pages in order
  };
  std::unordered_map<uint64_t, Buffer> buffers_;
};

}  // namespace hylas
