#pragma once
// What every vector type V offers: simd_avx2.h, simd_avx512.h and simd_scalar.h define one each, with the same names.
//
//   kLanes, F (kLanes floats), I (kLanes int32)
//   zero() set(float) load(const float*) store(float*, F)       unaligned
//   load_bf16 store_bf16 load_f16 store_f16                     rounded to nearest even
//   add sub mul div fma(a, b, c) = a * b + c, sqrt, accumulate(sum, a, b): sum = fma(a, b, sum), in sum's register
//   min max: the second operand when one is NaN
//   sum(F): ((l0 + l1) + (l2 + l3)) + ((l4 + l5) + (l6 + l7)) over eight lanes; wider vectors first add their halves,
//   narrower ones are the beginning of that tree. sum4(a, b, c, d, float out[4]): the sums of four vectors.
//   highest(F): the largest lane
//   in_register(F): the same value, which the compiler then keeps in a register instead of loading it at every use
//   load_int(const void*) store_int(void*, I) shift_left<n> shift_right<n> (arithmetic) bit_and(I, int32)
//   shift_left16<n> shift_right16<n>: the same on 16-bit lanes; high_half(I): the upper 16 bits of each lane, below
//   them 0 as_float(I) (same bits) to_float(I) round_int(F) (to nearest, |x| < 2^22), exponent(I): 2^i for -126 <= i <=
//   127
//
// Here: functions built from those.
#include <cstdint>

#define HYLAS_INLINE inline __attribute__((always_inline))
// Behind the parameters of a lambda.
#define HYLAS_LAMBDA_INLINE __attribute__((always_inline))

namespace hylas::cpu {

// e^x within 2 ulp for x in [-87.3, 88.3]; below and above it stays at the values of these bounds. NaN stays NaN.
// Cephes' expf: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by a polynomial of degree 6.
template <class V>
HYLAS_INLINE typename V::F exp(typename V::F x) {
  x = V::min(V::set(88.37626f), V::max(V::set(-87.33654f), x));
  typename V::I n = V::round_int(V::mul(x, V::set(1.44269504f)));
  typename V::F whole = V::to_float(n);
  typename V::F r = V::fma(whole, V::set(-0.693359375f), x);
  r = V::fma(whole, V::set(2.12194440e-4f), r);
  typename V::F p = V::set(1.9875691500e-4f);
  p = V::fma(p, r, V::set(1.3981999507e-3f));
  p = V::fma(p, r, V::set(8.3334519073e-3f));
  p = V::fma(p, r, V::set(4.1665795894e-2f));
  p = V::fma(p, r, V::set(1.6666665459e-1f));
  p = V::fma(p, r, V::set(5.0000001201e-1f));
  p = V::fma(p, V::mul(r, r), V::add(r, V::set(1.f)));
  return V::mul(p, V::exponent(n));
}

// 1 / (1 + e^-x)
template <class V>
HYLAS_INLINE typename V::F sigmoid(typename V::F x) {
  return V::div(V::set(1.f), V::add(V::set(1.f), exp<V>(V::sub(V::zero(), x))));
}

// The first `count` < kLanes elements, the other lanes zero.
template <class V>
HYLAS_INLINE typename V::F load_first(const float* from, int64_t count) {
  float lanes[V::kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return V::load(lanes);
}

template <class V>
HYLAS_INLINE void store_first(float* to, typename V::F value, int64_t count) {
  float lanes[V::kLanes];
  V::store(lanes, value);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

}  // namespace hylas::cpu
