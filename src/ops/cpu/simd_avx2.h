#pragma once
// Eight lanes: AVX2 with FMA and F16C. Only for files compiled with those flags.
#include <immintrin.h>

#include "ops/cpu/simd.h"

namespace hylas::cpu {

struct Avx2 {
  static constexpr int kLanes = 8;
  using F = __m256;
  using I = __m256i;

  static HYLAS_INLINE F zero() { return _mm256_setzero_ps(); }
  static HYLAS_INLINE F set(float x) { return _mm256_set1_ps(x); }
  static HYLAS_INLINE F load(const float* from) { return _mm256_loadu_ps(from); }
  static HYLAS_INLINE void store(float* to, F x) { _mm256_storeu_ps(to, x); }
  static HYLAS_INLINE F load_bf16(const uint16_t* from) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static HYLAS_INLINE void store_bf16(uint16_t* to, F x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    rounded = _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    rounded = _mm256_srli_epi32(rounded, 16);
    __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }
  static HYLAS_INLINE F load_f16(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static HYLAS_INLINE void store_f16(uint16_t* to, F x) {
    F limited = min(set(65504.f), max(set(-65504.f), x));  // NaN stays NaN
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(limited, _MM_FROUND_TO_NEAREST_INT));
  }

  static HYLAS_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
  static HYLAS_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static HYLAS_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static HYLAS_INLINE F div(F a, F b) { return _mm256_div_ps(a, b); }
  static HYLAS_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
  static HYLAS_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
  static HYLAS_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static HYLAS_INLINE F sqrt(F x) { return _mm256_sqrt_ps(x); }

  static HYLAS_INLINE void sum4(F a, F b, F c, F d, float* out) {
    F quarters = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1)));
  }
  static HYLAS_INLINE float sum(F x) {
    F pairs = _mm256_hadd_ps(x, x);
    F quarters = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1)));
  }
  static HYLAS_INLINE float highest(F x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }

  static HYLAS_INLINE void accumulate(F& sum, F a, F b) {
    asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  }
  static HYLAS_INLINE F in_register(F x) {
    asm volatile("" : "+x"(x));
    return x;
  }
  static HYLAS_INLINE I load_int(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static HYLAS_INLINE void store_int(void* to, I x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }
  template <int n>
  static HYLAS_INLINE I shift_left(I x) {
    return _mm256_slli_epi32(x, n);
  }
  template <int n>
  static HYLAS_INLINE I shift_right(I x) {
    return _mm256_srai_epi32(x, n);
  }
  template <int n>
  static HYLAS_INLINE I shift_left16(I x) {
    return _mm256_slli_epi16(x, n);
  }
  template <int n>
  static HYLAS_INLINE I shift_right16(I x) {
    return _mm256_srai_epi16(x, n);
  }
  static HYLAS_INLINE I bit_and(I x, int32_t mask) { return _mm256_and_si256(x, _mm256_set1_epi32(mask)); }
  // The mask stays in memory: a matrix product needs all sixteen registers for its sums.
  static HYLAS_INLINE I high_half(I x) {
    alignas(32) static constexpr uint32_t kMask[8] = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                      0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
    asm("vpand %1, %0, %0" : "+x"(x) : "m"(kMask));
    return x;
  }
  static HYLAS_INLINE F as_float(I x) { return _mm256_castsi256_ps(x); }
  static HYLAS_INLINE F to_float(I x) { return _mm256_cvtepi32_ps(x); }
  static HYLAS_INLINE I round_int(F x) { return _mm256_cvtps_epi32(x); }
  static HYLAS_INLINE F exponent(I x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(x, _mm256_set1_epi32(127)), 23));
  }
};

}  // namespace hylas::cpu
