#pragma once
// Products of at most 16 rows with FP8 weights on the tensor cores. Rows that do not come quantized are quantized on
// the way, as quantize.h does it, so that a product of few rows means what one of many does (fp8_gemm.h).
#include "ops/cuda/gemm.h"

namespace hylas::cuda {

constexpr int64_t kFp8RowsMax = 16;
// So few are quantized on the way for less than it costs to read the scales: Product::x has to be there.
constexpr int64_t kFp8OwnRowsMax = 4;

// Whether a single product is taken, whole or as a part: few rows of bf16, fp8 weights with scales, inputs a multiple
// of 128.
bool gemm_fp8_rows_takes(const Product& product);
// The sum over each block of 128 inputs is multiplied by both scales and added in f32, in an order that depends on the
// number of inputs alone. Slices are not seen: out gets the whole sum. `beside`: bf16 matrices over the same rows as
// parts, which gemm_small_takes, in the same launch and with gemm_small's bits; there may be none.
void gemm_fp8_rows(const Product& product, const Product& beside, Stream stream);

}  // namespace hylas::cuda
