#pragma once
// Element types as they lie in memory, loaded into and stored from vectors of floats (V of simd.h); loops over any
// length. Only for other_kernels_<isa>.cc.
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "ops/cpu/other_kernels.h"
#include "ops/cpu/simd.h"
#include "tensor/dtype.h"

#define HYLAS_INLINE_LAMBDA __attribute__((always_inline))

namespace hylas::cpu {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
struct F8 {  // e4m3
  uint8_t bits;
};

template <class V>
HYLAS_INLINE typename V::F load(const float* from) {
  return V::load(from);
}
template <class V>
HYLAS_INLINE typename V::F load(const Bf16* from) {
  return V::load_bf16(&from->bits);
}
template <class V>
HYLAS_INLINE typename V::F load(const F16* from) {
  return V::load_f16(&from->bits);
}
#if defined(__AVX2__)
// e4m3, widened with its sign to 16 bits, as f16 / 256: the exponent bias of f16 is 8 more, and it has the subnormals
// too. 0x7f is NaN.
HYLAS_INLINE __m128i e4m3_as_f16(__m128i wide) {
  __m128i magnitude = _mm_and_si128(wide, _mm_set1_epi16(0x7f));
  __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f)), _mm_set1_epi16(0x7c00));
  __m128i sign = _mm_and_si128(wide, _mm_set1_epi16(-0x8000));
  return _mm_or_si128(_mm_or_si128(_mm_slli_epi16(magnitude, 7), nan), sign);
}
#endif
template <class V>
HYLAS_INLINE typename V::F load(const F8* from) {
#if defined(__AVX2__)
  uint16_t half[V::kLanes];
  for (int i = 0; i < V::kLanes; i += 8) {
    __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(half + i), e4m3_as_f16(wide));
  }
  return V::mul(V::load_f16(half), V::set(256.f));
#else
  float lanes[V::kLanes];
  for (int i = 0; i < V::kLanes; ++i) lanes[i] = f8e4m3_to_f32(from[i].bits);
  return V::load(lanes);
#endif
}

template <class V>
HYLAS_INLINE void store(float* to, typename V::F x) {
  V::store(to, x);
}
template <class V>
HYLAS_INLINE void store(Bf16* to, typename V::F x) {
  V::store_bf16(&to->bits, x);
}
template <class V>
HYLAS_INLINE void store(F16* to, typename V::F x) {  // saturates
  V::store_f16(&to->bits, x);
}
template <class V>
HYLAS_INLINE void store(F8* to, typename V::F x) {  // saturates
  float lanes[V::kLanes];
  V::store(lanes, x);
  for (int i = 0; i < V::kLanes; ++i) to[i].bits = f32_to_f8e4m3(lanes[i]);
}

// Whole vectors (All) or the first `count` lanes: the others read as 0 and are not stored.
struct All {};
template <class V, class T>
HYLAS_INLINE typename V::F load(const T* from, All) {
  return load<V>(from);
}
template <class V, class T>
HYLAS_INLINE typename V::F load(const T* from, int64_t count) {
  T lanes[V::kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load<V>(lanes);
}
template <class V, class T>
HYLAS_INLINE void store(T* to, typename V::F x, All) {
  store<V>(to, x);
}
template <class V, class T>
HYLAS_INLINE void store(T* to, typename V::F x, int64_t count) {
  T lanes[V::kLanes];
  store<V>(lanes, x);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// body(i, n) for i = 0, kLanes, ... < count; n says how much of the vector at i there is: All, or the rest's count.
template <class V, class Body>
HYLAS_INLINE void for_vectors(int64_t count, Body&& body) {
  int64_t i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) body(i, All{});
  if (i < count) body(i, count - i);
}

// `count` elements as floats, and back.
template <class V, class T>
HYLAS_INLINE void widen(const T* from, int64_t count, float* to) {
  for_vectors<V>(count, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA { store<V>(to + i, load<V>(from + i, n), n); });
}
template <class V, class T>
HYLAS_INLINE void narrow(const float* from, int64_t count, T* to) {
  for_vectors<V>(count, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA { store<V>(to + i, load<V>(from + i, n), n); });
}

template <class V>
HYLAS_INLINE typename V::F silu(typename V::F x) {
  return V::div(x, V::add(V::set(1.f), exp<V>(V::sub(V::zero(), x))));
}

template <class T>
struct PointeeOf;
template <class T>
struct PointeeOf<T*> {
  using Type = T;
};
template <class P>
using Pointee = typename PointeeOf<P>::Type;

// A row of a matrix whose element type is known.
template <class T>
HYLAS_INLINE T* row(const Rows& rows, int64_t index) {
  return static_cast<T*>(rows.data) + index * rows.stride;
}

// body(T*{}) with the element type of `dtype`.
template <class Body>
HYLAS_INLINE void with_f32_bf16(DType dtype, Body&& body) {
  if (dtype == DType::kF32) {
    body(static_cast<float*>(nullptr));
  } else {
    body(static_cast<Bf16*>(nullptr));
  }
}

}  // namespace hylas::cpu
