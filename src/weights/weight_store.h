#pragma once
// WeightStore: owns the memory of weights that are not views of a file.
#include <cstddef>
#include <vector>

#include "base/result.h"
#include "tensor/device.h"

namespace hylas {

// Small pieces share a block of `block_bytes`: a process may have only some 65,000 mappings, and a GPU's memory comes
// in pages of megabytes. `device` outlives the store. Not thread-safe.
class WeightStore {
 public:
  WeightStore(Device& device, size_t block_bytes) : device_(&device), block_bytes_(block_bytes) {}
  // 64-byte aligned, zeroed, never freed before the store. kExhausted with the sizes.
  Result<std::byte*> allocate(size_t bytes);

 private:
  Device* device_;
  size_t block_bytes_;
  std::vector<Buffer> blocks_;
  size_t used_ = 0;  // of the last small block
  int small_ = -1;   // its index; -1: none yet
};

}  // namespace hylas
