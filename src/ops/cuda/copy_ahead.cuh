#pragma once
// Copies to shared memory past the registers: who waits for them waits for nothing else that is under way.
#include <cstdint>

#include "ops/cuda/bulk_copy.cuh"

namespace hylas::cuda {

// 4, 8 or 16 bytes, or zeros if they are not `there`; for the thread they have come behind copies_ahead_done(). 16 go
// past the first-level cache.
template <int bytes>
__device__ __forceinline__ void copy_ahead(void* shared, const void* from, bool there) {
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(from), "n"(bytes),
                 "r"(there ? bytes : 0)
                 : "memory");
  }
}
__device__ __forceinline__ void copies_ahead_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace hylas::cuda
