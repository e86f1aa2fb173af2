#pragma once
// From the vectors that a product's sums were gathered in to its outputs.
#include <cstring>

#include "ops/cpu/gemm_types.h"
#include "ops/cpu/simd.h"

namespace hylas::cpu {

typedef uint32_t Words4 __attribute__((vector_size(16)));
typedef uint16_t Halves4 __attribute__((vector_size(8)));

// Four floats as bf16, to nearest even.
HYLAS_INLINE Halves4 rounded_to_bf16(const float* values) {
  Words4 bits;
  std::memcpy(&bits, values, sizeof bits);
  const auto nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const Words4 rounded = nan ? bits | 0x400000u : bits + 0x7fffu + ((bits >> 16) & 1u);
  return __builtin_convertvector(rounded >> 16, Halves4);
}

// Outputs [output, min(output + 4, end)) of one row of x: the sums of the lanes of a, b, c and d.
template <class V>
HYLAS_INLINE void finish(const Product& product, int slice, int64_t row, int64_t output, int64_t end, typename V::F a,
                         typename V::F b, typename V::F c, typename V::F d) {
  const int64_t at = slice * product.slice_stride + row * product.row_stride + output - product.first_output;
  const bool whole = end - output >= 4;
  if (whole && !product.out_bf16 && product.format != WeightFormat::kFp8) {
    return V::sum4(a, b, c, d, static_cast<float*>(product.out) + at);
  }
  float sums[4];
  V::sum4(a, b, c, d, sums);
  if (product.format == WeightFormat::kFp8) {
    for (float& sum : sums) sum *= kFp8Half;
  }
  const size_t outputs = whole ? 4 : static_cast<size_t>(end - output);
  if (product.out_bf16) {
    const Halves4 halves = rounded_to_bf16(sums);
    uint16_t* out = static_cast<uint16_t*>(product.out) + at;
    whole ? std::memcpy(out, &halves, sizeof halves) : std::memcpy(out, &halves, outputs * sizeof *out);
  } else {
    std::memcpy(static_cast<float*>(product.out) + at, sums, outputs * sizeof *sums);
  }
}

}  // namespace hylas::cpu
