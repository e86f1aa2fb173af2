#pragma once
// The tile of three rows of x and four bf16 rows of W for AVX2, in assembly: its twelve sums, three x and one weight
// take all sixteen registers, and the compiler moves some of them to memory and back for every group, which costs a
// quarter of the speed.
#include "ops/cpu/gemm_tile.h"
#include "ops/cpu/simd_avx2.h"

namespace hylas::cpu {

// Sums r * 4 + c are ymm0 to ymm11, x ymm12 to ymm14, the weight ymm15.
#define HYLAS_MULTIPLY_ADD(s0, s1, s2)      \
  "vfmadd231ps %%ymm12, %%ymm15, %%ymm" #s0 \
  "\n\t"                                    \
  "vfmadd231ps %%ymm13, %%ymm15, %%ymm" #s1 \
  "\n\t"                                    \
  "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #s2 "\n\t"
#define HYLAS_LOW_HALVES(c, at, s0, s1, s2) \
  "vmovdqu " #at "(%[row" #c                \
  "],%[offset]), %%ymm15\n\t"               \
  "vpslld $16, %%ymm15, %%ymm15\n\t" HYLAS_MULTIPLY_ADD(s0, s1, s2)
#define HYLAS_HIGH_HALVES(c, at, s0, s1, s2) \
  "vmovdqa %[mask], %%ymm15\n\t"             \
  "vpand " #at "(%[row" #c "],%[offset]), %%ymm15, %%ymm15\n\t" HYLAS_MULTIPLY_ADD(s0, s1, s2)
#define HYLAS_LOAD_X(x0, x1, x2) \
  "vmovups " #x0                 \
  "(%[x]), %%ymm12\n\t"          \
  "vmovups " #x1                 \
  "(%[x]), %%ymm13\n\t"          \
  "vmovups " #x2 "(%[x]), %%ymm14\n\t"
#define HYLAS_GROUP(at, x0, x1, x2, x3, x4, x5) \
  HYLAS_LOAD_X(x0, x1, x2)                      \
  HYLAS_LOW_HALVES(0, at, 0, 4, 8)              \
  HYLAS_LOW_HALVES(1, at, 1, 5, 9)              \
  HYLAS_LOW_HALVES(2, at, 2, 6, 10)             \
  HYLAS_LOW_HALVES(3, at, 3, 7, 11)             \
  HYLAS_LOAD_X(x3, x4, x5)                      \
  HYLAS_HIGH_HALVES(0, at, 0, 4, 8)             \
  HYLAS_HIGH_HALVES(1, at, 1, 5, 9)             \
  HYLAS_HIGH_HALVES(2, at, 2, 6, 10)            \
  HYLAS_HIGH_HALVES(3, at, 3, 7, 11)
#define HYLAS_LOAD(i, at) "vmovups " #at "(%[totals]), %%ymm" #i "\n\t"
#define HYLAS_STORE(i, at) "vmovups %%ymm" #i ", " #at "(%[totals])\n\t"
#define HYLAS_ALL_SUMS(move)                                                                                      \
  move(0, 0) move(1, 32) move(2, 64) move(3, 96) move(4, 128) move(5, 160) move(6, 192) move(7, 224) move(8, 256) \
      move(9, 288) move(10, 320) move(11, 352)

// Pairs of groups, a cache line of each row.
template <>
struct GroupPairs<Avx2, 3, 4> {
  static constexpr bool kGiven = true;
  static HYLAS_INLINE void add(const char* const* row, int64_t pairs, const float* x, float* totals, int64_t ahead) {
    alignas(32) static constexpr uint32_t kMask[8] = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                      0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
    int64_t offset = 0, soon = ahead;
    asm volatile(
        HYLAS_ALL_SUMS(HYLAS_LOAD)
        ".p2align 5\n"
        "1:\n\t"
        "prefetcht1 (%[row0],%[soon])\n\t"
        "prefetcht1 (%[row1],%[soon])\n\t"
        HYLAS_GROUP(0, 0, 32, 64, 96, 128, 160)
        "prefetcht1 (%[row2],%[soon])\n\t"
        "prefetcht1 (%[row3],%[soon])\n\t"
        HYLAS_GROUP(32, 192, 224, 256, 288, 320, 352)
        "add $384, %[x]\n\t"
        "add $64, %[soon]\n\t"
        "add $64, %[offset]\n\t"
        "cmp %[end], %[offset]\n\t"
        "jne 1b\n\t"
        HYLAS_ALL_SUMS(HYLAS_STORE)
        : [x] "+r"(x), [offset] "+r"(offset), [soon] "+r"(soon)
        : [row0] "r"(row[0]), [row1] "r"(row[1]), [row2] "r"(row[2]), [row3] "r"(row[3]), [end] "r"(64 * pairs),
          [totals] "r"(totals), [mask] "m"(kMask)
        : "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10",
          "ymm11", "ymm12", "ymm13", "ymm14", "ymm15");
  }
};

#undef HYLAS_ALL_SUMS
#undef HYLAS_STORE
#undef HYLAS_LOAD
#undef HYLAS_GROUP
#undef HYLAS_LOAD_X
#undef HYLAS_HIGH_HALVES
#undef HYLAS_LOW_HALVES
#undef HYLAS_MULTIPLY_ADD

}  // namespace hylas::cpu
