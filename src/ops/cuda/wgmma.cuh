#pragma once
// Hopper's products of a warpgroup: 64 rows times 8 to 128 columns, bf16 over 16 inputs or e4m3 over 32, both in shared
// memory, K next to K, in rows of 128 bytes whose 16-byte pieces are swizzled: piece p of row r lies where piece p ^ (r
// % 8) would.
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
// Until all but the last `pending` groups are done.
template <int pending = 0>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Behind the last wait: no use of the sums moves before it.
template <int kTiles>
__device__ __forceinline__ void wgmma_settle(float (&sum)[kTiles][4]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    asm volatile("" : "+f"(sum[i][0]), "+f"(sum[i][1]), "+f"(sum[i][2]), "+f"(sum[i][3])::"memory");
  }
}

// wgmma_bf16, wgmma_e4m3: sum = a b, plus sum if `add`. Lane 4 g + t of warp w has rows 16 w + g (elements 0, 1) and 16
// w + g + 8 (2, 3) of columns 2 t and 2 t + 1 of every 8. In the text %0 to %2 are a, b and `add`, the sums follow.
#define HYLAS_SUMS_8 "%3, %4, %5, %6"
#define HYLAS_SUMS_16 HYLAS_SUMS_8 ", %7, %8, %9, %10"
#define HYLAS_SUMS_32 HYLAS_SUMS_16 ", %11, %12, %13, %14, %15, %16, %17, %18"
#define HYLAS_SUMS_64 HYLAS_SUMS_32 ", %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34"
#define HYLAS_SUMS_128                                                                 \
  HYLAS_SUMS_64                                                                        \
  ", %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, " \
  "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66"
#define HYLAS_OF_8(i) "+f"(sum[i][0]), "+f"(sum[i][1]), "+f"(sum[i][2]), "+f"(sum[i][3])
#define HYLAS_OF_16(i) HYLAS_OF_8(i), HYLAS_OF_8(i + 1)
#define HYLAS_OF_32(i) HYLAS_OF_16(i), HYLAS_OF_16(i + 2)
#define HYLAS_OF_64(i) HYLAS_OF_32(i), HYLAS_OF_32(i + 4)
#define HYLAS_OF_128(i) HYLAS_OF_64(i), HYLAS_OF_64(i + 8)
#define HYLAS_WGMMA(name, kind, flags, columns)                                                                 \
  __device__ __forceinline__ void name(float(&sum)[columns / 8][4], uint64_t a, uint64_t b, bool add) {         \
    int more = add;                                                                                             \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %2, 0;\nwgmma.mma_async.sync.aligned.m64n" #columns kind \
                 " {" HYLAS_SUMS_##columns "}, %0, %1, add, " flags ";\n}\n"                                    \
                 : "+l"(a), "+l"(b), "+r"(more), HYLAS_OF_##columns(0));                                        \
  }
#define HYLAS_WGMMA_BF16(columns) HYLAS_WGMMA(wgmma_bf16, "k16.f32.bf16.bf16", "1, 1, 0, 0", columns)
#define HYLAS_WGMMA_E4M3(columns) HYLAS_WGMMA(wgmma_e4m3, "k32.f32.e4m3.e4m3", "1, 1", columns)

HYLAS_WGMMA_E4M3(8)
HYLAS_WGMMA_E4M3(16)
HYLAS_WGMMA_E4M3(32)
HYLAS_WGMMA_E4M3(64)
HYLAS_WGMMA_E4M3(128)
HYLAS_WGMMA_BF16(16)
HYLAS_WGMMA_BF16(32)
HYLAS_WGMMA_BF16(64)
HYLAS_WGMMA_BF16(128)

#undef HYLAS_WGMMA_E4M3
#undef HYLAS_WGMMA_BF16
#undef HYLAS_WGMMA
#undef HYLAS_OF_128
#undef HYLAS_OF_64
#undef HYLAS_OF_32
#undef HYLAS_OF_16
#undef HYLAS_OF_8
#undef HYLAS_SUMS_128
#undef HYLAS_SUMS_64
#undef HYLAS_SUMS_32
#undef HYLAS_SUMS_16
#undef HYLAS_SUMS_8

}  // namespace hylas::cuda
