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
struct Bf16PairsAvx2 {
  static constexpr bool kGiven = true;
  static HYLAS_INLINE int64_t add(const char* const* row, int64_t pairs, const float* x, float* totals, Ahead ahead) {
    alignas(32) static constexpr uint32_t kMask[8] = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                      0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
    int64_t offset = 0;
    asm volatile(
        HYLAS_ALL_SUMS(HYLAS_LOAD)
        ".p2align 5\n"
        "1:\n\t"
        "prefetcht1 (%[soon])\n\t"
        "prefetcht1 (%[soon],%[between])\n\t"
        HYLAS_GROUP(0, 0, 32, 64, 96, 128, 160)
        "prefetcht1 (%[soon],%[between],2)\n\t"
        "prefetcht1 (%[soon],%[between3])\n\t"
        HYLAS_GROUP(32, 192, 224, 256, 288, 320, 352)
        "add $384, %[x]\n\t"
        "add %[advance], %[soon]\n\t"
        "add $64, %[offset]\n\t"
        "cmp %[end], %[offset]\n\t"
        "jne 1b\n\t"
        HYLAS_ALL_SUMS(HYLAS_STORE)
        : [x] "+&r"(x), [offset] "+&r"(offset), [soon] "+&r"(ahead.at)
        : [row0] "r"(row[0]), [row1] "r"(row[1]), [row2] "r"(row[2]), [row3] "r"(row[3]), [end] "r"(64 * pairs),
          [totals] "r"(totals), [between] "r"(ahead.between), [between3] "r"(3 * ahead.between),
          [advance] "rm"(ahead.advance), [mask] "m"(kMask)
        : "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10",
          "ymm11", "ymm12", "ymm13", "ymm14", "ymm15");
    return pairs;
  }
};
template <>
struct GroupPairs<Avx2, 3, RowsBF16<Avx2, 4>> : Bf16PairsAvx2 {};
template <>
struct GroupPairs<Avx2, 3, RowsFp8Wide<Avx2, 4>> : Bf16PairsAvx2 {};

// One step of a panel.
#define HYLAS_PANEL_WEIGHT(at, s0, s1, s2) \
  "vmovups " #at                           \
  "(%[w]), %[weight]\n\t"                  \
  "vfmadd231ps %[x0], %[weight], %[" #s0   \
  "]\n\t"                                  \
  "vfmadd231ps %[x1], %[weight], %[" #s1   \
  "]\n\t"                                  \
  "vfmadd231ps %[x2], %[weight], %[" #s2 "]\n\t"
#define HYLAS_PANEL_STEP(x0, x1, x2, w0, w1, w2, w3)                                                       \
  "vmovups " #x0                                                                                           \
  "(%[x]), %[x0]\n\t"                                                                                      \
  "vmovups " #x1                                                                                           \
  "(%[x]), %[x1]\n\t"                                                                                      \
  "vmovups " #x2 "(%[x]), %[x2]\n\t" HYLAS_PANEL_WEIGHT(w0, s0, s4, s8) HYLAS_PANEL_WEIGHT(w1, s1, s5, s9) \
      HYLAS_PANEL_WEIGHT(w2, s2, s6, s10) HYLAS_PANEL_WEIGHT(w3, s3, s7, s11)
#define HYLAS_PANEL_ZERO(i, at) "vxorps %[s" #i "], %[s" #i "], %[s" #i "]\n\t"
#define HYLAS_PANEL_LOAD(i, at) "vmovups " #at "(%[from]), %[s" #i "]\n\t"

// Starts from the sums `from`, or from zeros.
template <>
struct PanelSteps<Avx2, 3, 4> {
  static constexpr bool kGiven = true;
  static HYLAS_INLINE void run(__m256 (&sum)[12], const float* from, const float* x, const float* w, int64_t steps) {
    __m256 x0, x1, x2, weight;
    int64_t fours = steps / 4, rest = steps % 4;
    asm volatile(
        "test %[from], %[from]\n\t"
        "jnz 5f\n\t"
        HYLAS_ALL_SUMS(HYLAS_PANEL_ZERO)
        "jmp 6f\n"
        "5:\n\t"
        HYLAS_ALL_SUMS(HYLAS_PANEL_LOAD)
        "6:\n\t"
        "test %[fours], %[fours]\n\t"
        "jz 2f\n\t"
        ".p2align 5\n"
        "1:\n\t"
        HYLAS_PANEL_STEP(0, 32, 64, 0, 32, 64, 96)
        HYLAS_PANEL_STEP(96, 128, 160, 128, 160, 192, 224)
        HYLAS_PANEL_STEP(192, 224, 256, 256, 288, 320, 352)
        HYLAS_PANEL_STEP(288, 320, 352, 384, 416, 448, 480)
        "add $384, %[x]\n\t"
        "add $512, %[w]\n\t"
        "dec %[fours]\n\t"
        "jnz 1b\n"
        "2:\n\t"
        "test %[rest], %[rest]\n\t"
        "jz 4f\n"
        "3:\n\t"
        HYLAS_PANEL_STEP(0, 32, 64, 0, 32, 64, 96)
        "add $96, %[x]\n\t"
        "add $128, %[w]\n\t"
        "dec %[rest]\n\t"
        "jnz 3b\n"
        "4:\n\t"
        : [x] "+&r"(x), [w] "+&r"(w), [fours] "+&r"(fours), [rest] "+&r"(rest), [s0] "=&x"(sum[0]), [s1] "=&x"(sum[1]),
          [s2] "=&x"(sum[2]), [s3] "=&x"(sum[3]), [s4] "=&x"(sum[4]), [s5] "=&x"(sum[5]), [s6] "=&x"(sum[6]),
          [s7] "=&x"(sum[7]), [s8] "=&x"(sum[8]), [s9] "=&x"(sum[9]), [s10] "=&x"(sum[10]), [s11] "=&x"(sum[11]),
          [x0] "=&x"(x0), [x1] "=&x"(x1), [x2] "=&x"(x2), [weight] "=&x"(weight)
        : [from] "r"(from)
        : "memory", "cc");
  }
};

#undef HYLAS_PANEL_LOAD
#undef HYLAS_PANEL_ZERO
#undef HYLAS_PANEL_STEP
#undef HYLAS_PANEL_WEIGHT
#undef HYLAS_ALL_SUMS
#undef HYLAS_STORE
#undef HYLAS_LOAD
#undef HYLAS_GROUP
#undef HYLAS_LOAD_X
#undef HYLAS_HIGH_HALVES
#undef HYLAS_LOW_HALVES
#undef HYLAS_MULTIPLY_ADD

}  // namespace hylas::cpu
