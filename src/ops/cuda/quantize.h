#pragma once
// Activations in FP8 with a scale for each 128 values of a row: quantize.cu.
#include "ops/cuda/views.h"

namespace hylas::cuda {

// q = x / scale in e4m3, scale = max |x| / 448 over the group (1e-10 instead of smaller maxima).
struct Fp8Rows {
  void* data = nullptr;    // [rows, inputs] e4m3, 256-byte aligned
  float* scale = nullptr;  // [inputs / 128, scale_stride]: column r is row r's
  int64_t rows = 0;
  int64_t inputs = 0;        // a multiple of 128
  int64_t scale_stride = 0;  // rows, rounded up to 4
};

// Where rows go: row i of `rows` to rows place[i * k] .. place[i * k + k - 1], as far as they are not negative.
struct RowPlaces {
  const int32_t* place = nullptr;
  int k = 1;
  int64_t rows = 0;
};

// Rows of x (bf16, at multiples of 16 bytes) to their places; null: row i to row i, all of `to`.
void quantize_rows(const View& x, const RowPlaces* places, const Fp8Rows& to, Stream stream);
// Row i from silu(gate) * up, rounded to bf16 in between, where row i of `gate_up` is [gate | up], to.inputs values
// each. Rows whose index[i] is negative are left as they are; null: none are.
void silu_mul_quantize_rows(const View& gate_up, const int32_t* index, const Fp8Rows& to, Stream stream);

}  // namespace hylas::cuda
