#pragma once
// One row of x and eight rows of W for AVX2, in assembly. Four rows of W at a time are widened and multiplied step by
// step, so that the multiply-adds of one sum, which wait for each other, lie apart.
#include "ops/cpu/gemm_tile.h"
#include "ops/cpu/simd_avx2.h"

namespace hylas::cpu {

// Sums are ymm0 to ymm7, words of four rows ymm8 to ymm11, a weight ymm12 or ymm13, the mask ymm14, x ymm15. Rows 0 to
// 3 begin at `low`, 4 to 7 at `high`.
#define HYLAS_WORDS(t, at, base, row) "vmovdqu " #at "(%[" #base "]" row "), %%ymm" #t "\n\t"
#define HYLAS_FOUR_WORDS(at, base)       \
  HYLAS_WORDS(8, at, base, "")           \
  HYLAS_WORDS(9, at, base, ",%[stride]") \
  HYLAS_WORDS(10, at, base, ",%[stride],2") HYLAS_WORDS(11, at, base, ",%[stride3]")
#define HYLAS_X(at) "vmovups " #at "(%[x]), %%ymm15\n\t"
#define HYLAS_INPLACE(op, t) op ", %%ymm" #t ", %%ymm" #t "\n\t"
#define HYLAS_FOUR(op) HYLAS_INPLACE(op, 8) HYLAS_INPLACE(op, 9) HYLAS_INPLACE(op, 10) HYLAS_INPLACE(op, 11)
#define HYLAS_MULTIPLY(t, sum) "vfmadd231ps %%ymm15, %%ymm" #t ", %%ymm" #sum "\n\t"
// The lower halves of the words; `mask` clears what is not theirs.
#define HYLAS_LOW(t, to, sum, mask) "vpslld $16, %%ymm" #t ", %%ymm" #to "\n\t" mask(to) HYLAS_MULTIPLY(to, sum)
#define HYLAS_HIGH(t, sum) HYLAS_MASKED(t) HYLAS_MULTIPLY(t, sum)
#define HYLAS_MASKED(t) HYLAS_INPLACE("vpand %%ymm14", t)
#define HYLAS_AS_IS(t)
#define HYLAS_PAIR(x0, x1, s0, s1, s2, s3, mask) \
  HYLAS_X(x0)                                    \
  HYLAS_LOW(8, 12, s0, mask)                     \
  HYLAS_LOW(9, 13, s1, mask)                     \
  HYLAS_LOW(10, 12, s2, mask)                    \
  HYLAS_LOW(11, 13, s3, mask) HYLAS_X(x1) HYLAS_HIGH(8, s0) HYLAS_HIGH(9, s1) HYLAS_HIGH(10, s2) HYLAS_HIGH(11, s3)

// Four rows of a group of 32 bytes, and all eight.
#define HYLAS_FP8_ROWS(at, base, x0, x1, x2, x3, s0, s1, s2, s3) \
  HYLAS_FOUR_WORDS(at, base)                                     \
  HYLAS_FOUR("vpsllw $8")                                        \
  HYLAS_FOUR("vpsraw $4")                                        \
  HYLAS_PAIR(x0, x1, s0, s1, s2, s3, HYLAS_MASKED)               \
  HYLAS_FOUR_WORDS(at, base)                                     \
  HYLAS_FOUR("vpsraw $4") HYLAS_PAIR(x2, x3, s0, s1, s2, s3, HYLAS_MASKED)
#define HYLAS_FP8_GROUP(at, x0, x1, x2, x3)           \
  HYLAS_FP8_ROWS(at, low, x0, x1, x2, x3, 0, 1, 2, 3) \
  HYLAS_FP8_ROWS(at, high, x0, x1, x2, x3, 4, 5, 6, 7)
#define HYLAS_BF16_GROUP(at, x0, x1) \
  HYLAS_FOUR_WORDS(at, low)          \
  HYLAS_PAIR(x0, x1, 0, 1, 2, 3, HYLAS_AS_IS) HYLAS_FOUR_WORDS(at, high) HYLAS_PAIR(x0, x1, 4, 5, 6, 7, HYLAS_AS_IS)
#define HYLAS_SUMS(move) \
  move(0, 0) move(1, 32) move(2, 64) move(3, 96) move(4, 128) move(5, 160) move(6, 192) move(7, 224)
#define HYLAS_LOAD(i, at) "vmovups " #at "(%[totals]), %%ymm" #i "\n\t"
#define HYLAS_STORE(i, at) "vmovups %%ymm" #i ", " #at "(%[totals])\n\t"
#define HYLAS_ASK(prefetch, from)                                                                \
  prefetch " (%[" #from "])\n\t" prefetch " (%[" #from "],%[between])\n\t" prefetch " (%[" #from \
           "],%[between],2)\n\t" prefetch " (%[" #from "],%[between3])\n\t"

// `pairs` pairs of groups, a cache line of each row; `x_bytes` of x belong to one.
#define HYLAS_ROW_LOOP(prefetch, group0, group1, x_bytes) \
  asm volatile(HYLAS_SUMS(HYLAS_LOAD) "vmovdqa %[mask], %%ymm14\n\t" \
               ".p2align 5\n" \
               "1:\n\t" HYLAS_ASK(prefetch, soon) group0 HYLAS_ASK(prefetch, later) group1 \
               "add $" #x_bytes ", %[x]\n\t" \
               "add $64, %[low]\n\t" \
               "add $64, %[high]\n\t" \
               "add %[advance], %[soon]\n\t" \
               "add %[advance], %[later]\n\t" \
               "dec %[left]\n\t" \
               "jnz 1b\n\t" HYLAS_SUMS(HYLAS_STORE) \
               : [x] "+&r"(x), [low] "+&r"(low), [high] "+&r"(high), [soon] "+&r"(ahead.at), \
                 [later] "+&r"(later), [left] "+&r"(left) \
               : [stride] "r"(stride), [stride3] "r"(3 * stride), [between] "r"(ahead.between), \
                 [between3] "r"(3 * ahead.between), [advance] "rm"(ahead.advance), [totals] "r"(totals), \
                 [mask] "m"(kMask) \
               : "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", \
                 "ymm10", "ymm11", "ymm12", "ymm13", "ymm14", "ymm15")

template <bool fp8>
struct RowPairsAvx2 {
  static constexpr bool kGiven = true;
  static HYLAS_INLINE int64_t add(const char* const* row, int64_t pairs, const float* x, float* totals, Ahead ahead) {
    constexpr uint32_t kBits = fp8 ? 0x87f00000u : 0xffff0000u;
    alignas(32) static constexpr uint32_t kMask[8] = {kBits, kBits, kBits, kBits, kBits, kBits, kBits, kBits};
    const int64_t stride = row[1] - row[0];
    if (row[7] - row[0] != 7 * stride) return 0;  // fewer than eight rows are left
    const char *low = row[0], *high = row[4], *later = ahead.at + 4 * ahead.between;
    int64_t left = pairs;
    if constexpr (fp8) {
      if (ahead.near) {
        HYLAS_ROW_LOOP("prefetcht0", HYLAS_FP8_GROUP(0, 0, 32, 64, 96), HYLAS_FP8_GROUP(32, 128, 160, 192, 224), 256);
      } else {
        HYLAS_ROW_LOOP("prefetcht1", HYLAS_FP8_GROUP(0, 0, 32, 64, 96), HYLAS_FP8_GROUP(32, 128, 160, 192, 224), 256);
      }
    } else {
      HYLAS_ROW_LOOP("prefetcht1", HYLAS_BF16_GROUP(0, 0, 32), HYLAS_BF16_GROUP(32, 64, 96), 128);
    }
    return pairs;
  }
};
template <>
struct GroupPairs<Avx2, 1, RowsFp8<Avx2, 8>> : RowPairsAvx2<true> {};
template <>
struct GroupPairs<Avx2, 1, RowsBF16<Avx2, 8>> : RowPairsAvx2<false> {};

#undef HYLAS_ROW_LOOP
#undef HYLAS_ASK
#undef HYLAS_STORE
#undef HYLAS_LOAD
#undef HYLAS_SUMS
#undef HYLAS_BF16_GROUP
#undef HYLAS_FP8_GROUP
#undef HYLAS_FP8_ROWS
#undef HYLAS_PAIR
#undef HYLAS_AS_IS
#undef HYLAS_MASKED
#undef HYLAS_HIGH
#undef HYLAS_LOW
#undef HYLAS_MULTIPLY
#undef HYLAS_FOUR
#undef HYLAS_INPLACE
#undef HYLAS_X
#undef HYLAS_FOUR_WORDS
#undef HYLAS_WORDS

}  // namespace hylas::cpu
