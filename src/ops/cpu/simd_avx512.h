#pragma once
// Sixteen lanes: AVX-512 F, BW, VL and DQ. Only for files compiled with those flags.
#include <immintrin.h>

#include "ops/cpu/simd.h"

namespace hylas::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  using F = __m512;
  using I = __m512i;

  static HYLAS_INLINE F zero() { return _mm512_setzero_ps(); }
  static HYLAS_INLINE F set(float x) { return _mm512_set1_ps(x); }
  static HYLAS_INLINE F load(const float* from) { return _mm512_loadu_ps(from); }
  static HYLAS_INLINE void store(float* to, F x) { _mm512_storeu_ps(to, x); }
  static HYLAS_INLINE F load_bf16(const uint16_t* from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static HYLAS_INLINE void store_bf16(uint16_t* to, F x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  static HYLAS_INLINE F load_f16(const uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static HYLAS_INLINE void store_f16(uint16_t* to, F x) {
    F limited = min(set(65504.f), max(set(-65504.f), x));  // NaN stays NaN
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(limited, _MM_FROUND_TO_NEAREST_INT));
  }

  static HYLAS_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  static HYLAS_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static HYLAS_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static HYLAS_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
  static HYLAS_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  static HYLAS_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  static HYLAS_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static HYLAS_INLINE F sqrt(F x) { return _mm512_sqrt_ps(x); }

  static HYLAS_INLINE __m256 halves(F x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  }
  static HYLAS_INLINE void sum4(F a, F b, F c, F d, float* out) {
    __m256 quarters = _mm256_hadd_ps(_mm256_hadd_ps(halves(a), halves(b)), _mm256_hadd_ps(halves(c), halves(d)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1)));
  }
  static HYLAS_INLINE float sum(F x) {
    __m256 pairs = _mm256_hadd_ps(halves(x), halves(x));
    __m256 quarters = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1)));
  }
  static HYLAS_INLINE float highest(F x) { return _mm512_reduce_max_ps(x); }

  static HYLAS_INLINE void accumulate(F& sum, F a, F b) {
    asm volatile("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  }
  static HYLAS_INLINE F in_register(F x) {
    asm volatile("" : "+v"(x));
    return x;
  }
  static HYLAS_INLINE I load_int(const void* from) { return _mm512_loadu_si512(from); }
  static HYLAS_INLINE void store_int(void* to, I x) { _mm512_storeu_si512(to, x); }
  template <int n>
  static HYLAS_INLINE I shift_left(I x) {
    return _mm512_slli_epi32(x, n);
  }
  template <int n>
  static HYLAS_INLINE I shift_right(I x) {
    return _mm512_srai_epi32(x, n);
  }
  template <int n>
  static HYLAS_INLINE I shift_left16(I x) {
    return _mm512_slli_epi16(x, n);
  }
  template <int n>
  static HYLAS_INLINE I shift_right16(I x) {
    return _mm512_srai_epi16(x, n);
  }
  static HYLAS_INLINE I bit_and(I x, int32_t mask) { return _mm512_and_si512(x, _mm512_set1_epi32(mask)); }
  static HYLAS_INLINE I high_half(I x) { return bit_and(x, static_cast<int32_t>(0xffff0000u)); }
  static HYLAS_INLINE F as_float(I x) { return _mm512_castsi512_ps(x); }
  static HYLAS_INLINE F to_float(I x) { return _mm512_cvtepi32_ps(x); }
  static HYLAS_INLINE I round_int(F x) { return _mm512_cvtps_epi32(x); }
  static HYLAS_INLINE F exponent(I x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(127)), 23));
  }
};

}  // namespace hylas::cpu
