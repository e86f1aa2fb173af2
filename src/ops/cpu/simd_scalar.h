#pragma once
// Four lanes in the compiler's own vector extension: any processor; SSE2 on every x86-64, NEON on ARM. No fused
// multiply-add: fma() rounds twice.
#include <cmath>
#include <cstring>

#include "ops/cpu/simd.h"
#include "tensor/dtype.h"

namespace hylas::cpu {

struct Scalar {
  static constexpr int kLanes = 4;
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));

  static HYLAS_INLINE F zero() { return F{}; }
  static HYLAS_INLINE F set(float x) { return F{x, x, x, x}; }
  static HYLAS_INLINE F load(const float* from) {
    F x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  static HYLAS_INLINE void store(float* to, F x) { std::memcpy(to, &x, sizeof x); }
  static HYLAS_INLINE F load_bf16(const uint16_t* from) {
    return F{bf16_to_f32(from[0]), bf16_to_f32(from[1]), bf16_to_f32(from[2]), bf16_to_f32(from[3])};
  }
  static HYLAS_INLINE void store_bf16(uint16_t* to, F x) {
    for (int i = 0; i < kLanes; ++i) to[i] = f32_to_bf16(x[i]);
  }
  static HYLAS_INLINE F load_f16(const uint16_t* from) {
    return F{f16_to_f32(from[0]), f16_to_f32(from[1]), f16_to_f32(from[2]), f16_to_f32(from[3])};
  }
  static HYLAS_INLINE void store_f16(uint16_t* to, F x) {
    for (int i = 0; i < kLanes; ++i) to[i] = f32_to_f16(x[i]);
  }

  static HYLAS_INLINE F add(F a, F b) { return a + b; }
  static HYLAS_INLINE F sub(F a, F b) { return a - b; }
  static HYLAS_INLINE F mul(F a, F b) { return a * b; }
  static HYLAS_INLINE F div(F a, F b) { return a / b; }
  static HYLAS_INLINE F min(F a, F b) { return a < b ? a : b; }
  static HYLAS_INLINE F max(F a, F b) { return a > b ? a : b; }
  static HYLAS_INLINE F fma(F a, F b, F c) { return a * b + c; }
  static HYLAS_INLINE F sqrt(F x) { return F{std::sqrt(x[0]), std::sqrt(x[1]), std::sqrt(x[2]), std::sqrt(x[3])}; }

  static HYLAS_INLINE float sum(F x) { return (x[0] + x[1]) + (x[2] + x[3]); }
  static HYLAS_INLINE void sum4(F a, F b, F c, F d, float* out) {
    out[0] = sum(a);
    out[1] = sum(b);
    out[2] = sum(c);
    out[3] = sum(d);
  }
  static HYLAS_INLINE float highest(F x) {
    float left = x[0] > x[1] ? x[0] : x[1];
    float right = x[2] > x[3] ? x[2] : x[3];
    return left > right ? left : right;
  }

  static HYLAS_INLINE void accumulate(F& sum, F a, F b) { sum = fma(a, b, sum); }
  static HYLAS_INLINE F in_register(F x) { return x; }
  static HYLAS_INLINE I load_int(const void* from) {
    I x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  static HYLAS_INLINE void store_int(void* to, I x) { std::memcpy(to, &x, sizeof x); }
  template <int n>
  static HYLAS_INLINE I shift_left(I x) {
    return x << n;
  }
  template <int n>
  static HYLAS_INLINE I shift_right(I x) {
    return x >> n;
  }
  typedef int16_t I16 __attribute__((vector_size(16)));
  template <int n>
  static HYLAS_INLINE I shift_left16(I x) {
    return reinterpret_cast<I>(reinterpret_cast<I16>(x) << n);
  }
  template <int n>
  static HYLAS_INLINE I shift_right16(I x) {
    return reinterpret_cast<I>(reinterpret_cast<I16>(x) >> n);
  }
  static HYLAS_INLINE I bit_and(I x, int32_t mask) { return x & mask; }
  static HYLAS_INLINE I high_half(I x) { return bit_and(x, static_cast<int32_t>(0xffff0000u)); }
  static HYLAS_INLINE F as_float(I x) { return reinterpret_cast<F>(x); }
  static HYLAS_INLINE F to_float(I x) { return __builtin_convertvector(x, F); }
  static HYLAS_INLINE I round_int(F x) {
    const F magic = set(12582912.f);  // 1.5 * 2^23: adding it leaves the rounded number in the low mantissa bits
    return reinterpret_cast<I>(x + magic) - reinterpret_cast<I>(magic);
  }
  static HYLAS_INLINE F exponent(I x) { return reinterpret_cast<F>((x + 127) << 23); }
};

}  // namespace hylas::cpu
