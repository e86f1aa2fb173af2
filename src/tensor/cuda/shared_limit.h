#pragma once
// SharedLimit: lets a kernel take more than 48 KB of shared memory, which each device must be told.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

// One for each kernel, static. Thread-safe.
class SharedLimit {
 public:
  // On the thread's device; a call of the driver before the first launch only.
  template <class Kernel>
  void raise(Kernel* kernel, int bytes, const char* what) {
    int device = 0;
    check(cudaGetDevice(&device), what);
    const uint64_t bit = uint64_t{1} << (device % 64);
    if (raised_.load(std::memory_order_relaxed) & bit) return;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), what);
    raised_.fetch_or(bit, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> raised_{0};
};

}  // namespace hylas::cuda
