#pragma once
// Products of experts with at most kFewRows rows each on the FP8 tensor cores: mma.sync on the weights as they are
// stored and rows that were quantized before (quantize.h). gemm_bf16.cu turns every weight into bf16, which takes
// longer than to fetch it on an H200.
#include "ops/cuda/gemm.h"
#include "ops/cuda/quantize.h"

namespace hylas::cuda {

constexpr int kFewRows = 16;

struct FewFp8Args {
  Fp8Rows x;
  const int32_t* x_index = nullptr;  // row i of the product is of row x_index[i] of x; null: row i
  bool paired = false;               // as Product::paired; then out is bf16, else f32
  // On the device, as in Product. The kernel before this one in the stream does not write any of them, nor x_index.
  const WeightView* weights = nullptr;
  const WeightView* others = nullptr;
  const RowRun* runs = nullptr;
  int run_rows = kFewRows;  // at most so many rows has a run: 8 take less room, so more blocks fit beside each other
  const int32_t* run_count = nullptr;
  int32_t runs_max = 0;
  int64_t outputs = 0;  // a multiple of 64; paired: of 32
  View out;
  const int32_t* out_index = nullptr;  // row i of the product goes to row out_index[i] of out; null: row i
};

// Whether experts of this shape are taken: both multiples of 128, rows of x of at most 96 KB for kFewRows of them.
bool few_fp8_takes(int64_t hidden, int64_t width);
// Rows of a run for so many rows of so many experts; hardly an expert has more.
constexpr int few_run_rows(int64_t rows, int64_t experts) { return rows <= 3 * experts ? 8 : kFewRows; }
// The sum over each block of 128 inputs is multiplied by both scales and added in f32, in ascending order: a row's bits
// do not depend on other rows.
void few_fp8(const FewFp8Args& args, Stream stream);

}  // namespace hylas::cuda
