#pragma once
// Rows to FP8: quantize.cu.
#include "ops/cuda/fp8_rows.h"

namespace hylas::cuda {

// Where rows go: row i of `rows` to rows place[i * k] .. place[i * k + k - 1], as far as they are not negative.
struct RowPlaces {
  const int32_t* place = nullptr;
  int k = 1;
  int64_t rows = 0;
};

// Rows of x (bf16, at multiples of 16 bytes) to their places; null: row i to row i, all of `to`.
void quantize_rows(const View& x, const RowPlaces* places, const Fp8Rows& to, Stream stream);
// Of rows that are quantized row_token[i] to row i, where row_expert[i] is not negative. [to.rows] both.
void take_fp8(const Fp8Rows& x, const int32_t* row_expert, const int32_t* row_token, const Fp8Rows& to, Stream stream);
// Row i from silu(gate) * up, rounded to bf16 in between, where row i of `gate_up` is [gate | up], to.inputs values
// each. Rows whose index[i] is negative and those from index[to.rows] on are left as they are; null: none are.
void silu_mul_quantize_rows(const View& gate_up, const int32_t* index, const Fp8Rows& to, Stream stream);

}  // namespace hylas::cuda
