#pragma once
// HostStore: owns the memory of weights that are not views of a file.
#include <cstddef>
#include <memory>
#include <vector>

#include "base/result.h"
#include "tensor/device.h"

namespace hylas {

// Small pieces share a block, because a process may have only some 65,000 mappings. Not thread-safe.
class HostStore {
 public:
  HostStore() : device_(make_cpu_device()) {}
  // 64-byte aligned, zeroed, never freed before the store. kExhausted with the sizes.
  Result<std::byte*> allocate(size_t bytes);

 private:
  std::unique_ptr<Device> device_;  // before the blocks: they give their memory back to it
  std::vector<Buffer> blocks_;
  size_t used_ = 0;  // of the last small block
  int small_ = -1;   // its index; -1: none yet
};

}  // namespace hylas
