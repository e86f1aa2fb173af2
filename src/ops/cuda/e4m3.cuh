#pragma once
// FP8 (e4m3) on the way into the tensor cores' m16n8k16 on f16, where every e4m3 value is exact. Hopper's mma.sync on
// e4m3 is the same instruction behind the same conversions: what is converted once serves several instructions here.
#include <cuda_fp16.h>

#include <cstdint>

#include "ops/cuda/element.cuh"

namespace hylas::cuda {

__device__ __forceinline__ uint32_t e4m3_pair_to_f16(uint32_t low_bytes) {
  uint32_t pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<uint16_t>(low_bytes)));
  return pair;
}

// The same of the high bytes: the conversion takes them where they are.
__device__ __forceinline__ uint32_t e4m3_high_pair_to_f16(uint32_t four_bytes) {
  uint32_t pair;
  asm("{\n"
      ".reg .b16 low, high;\n"
      "mov.b32 {low, high}, %1;\n"
      "cvt.rn.f16x2.e4m3x2 %0, high;\n"
      "}\n"
      : "=r"(pair)
      : "r"(four_bytes));
  return pair;
}

__device__ __forceinline__ void mma_f16(float (&sum)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                        uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The larger of the magnitudes in pairs of bf16: without the sign they are in the order of their bits, NaN last.
__device__ __forceinline__ uint32_t larger_magnitudes(uint32_t a, uint32_t b) {
  return __vmaxu2(a & 0x7fff7fffu, b & 0x7fff7fffu);
}
__device__ __forceinline__ float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// The scale of a group and quotients by it, as quantize.cu gets them. A division is an estimate and one step towards
// what its remainder says: the quotient of 8 bits by 24 that this would not round as the division does lies closer to
// the middle between two floats than any can.
struct GroupScale {
  float scale, inverse;

  // `most`: of the group's magnitudes.
  __device__ explicit GroupScale(float most) {
    constexpr float kOf448 = 1.f / 448.f;
    most = fmaxf(most, 1e-10f);
    const float estimate = most * kOf448;
    scale = fmaf(fmaf(-estimate, 448.f, most), kOf448, estimate);
    float guess;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(guess) : "f"(scale));
    inverse = fmaf(fmaf(-scale, guess, 1.f), guess, guess);
  }
  __device__ float of(float x) const {
    const float estimate = x * inverse;
    return fmaf(fmaf(-estimate, scale, x), inverse, estimate);
  }
  // Two pairs of bf16 as four e4m3.
  __device__ uint32_t of_pairs(uint32_t first, uint32_t second) const { return of_pair(first) | of_pair(second) << 16; }

 private:
  __device__ uint32_t of_pair(uint32_t pair) const {
    uint16_t both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(of(high_bf16(pair))), "f"(of(low_bf16(pair))));
    return both;
  }
};

}  // namespace hylas::cuda
