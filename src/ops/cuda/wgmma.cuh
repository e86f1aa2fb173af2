#pragma once
// Hopper's products of a warpgroup: 64 rows of e4m3 times 8 or 16 columns of e4m3, both in shared memory, K next to K,
// in rows of 128 bytes whose 16-byte pieces are swizzled: piece p of row r lies where piece p ^ (r % 8) would.
#include <cstdint>

#include "ops/cuda/bulk_copy.cuh"

namespace hylas::cuda {

// Rows in groups of 8 one behind the other; `shared` at a multiple of 1024 bytes plus 32 for each step of K.
__device__ __forceinline__ uint64_t wgmma_operand(const void* shared) {
  constexpr uint64_t kGroupStride = 1024 >> 4, kSwizzle128 = 1;
  return (shared_address(shared) & 0x3ffffu) >> 4 | uint64_t{1} << 16 | kGroupStride << 32 | kSwizzle128 << 62;
}

__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// sum = a b over 32 inputs, plus sum if `add`. Lane 4 g + t of warp w has rows 16 w + g (elements 0, 1) and 16 w + g +
// 8 (2, 3) of columns 2 t and 2 t + 1, and so for the next 8 columns.
__device__ __forceinline__ void wgmma_e4m3(float (&sum)[1][4], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %6, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%0, %1, %2, %3}, %4, %5, add, 1, 1;\n"
      "}\n"
      : "+f"(sum[0][0]), "+f"(sum[0][1]), "+f"(sum[0][2]), "+f"(sum[0][3])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void wgmma_e4m3(float (&sum)[2][4], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k32.f32.e4m3.e4m3 {%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, add, 1, 1;\n"
      "}\n"
      : "+f"(sum[0][0]), "+f"(sum[0][1]), "+f"(sum[0][2]), "+f"(sum[0][3]), "+f"(sum[1][0]), "+f"(sum[1][1]),
        "+f"(sum[1][2]), "+f"(sum[1][3])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

}  // namespace hylas::cuda
