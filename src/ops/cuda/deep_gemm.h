#pragma once
// DeepGEMM's FP8 product for Hopper, compiled ahead of time for the tiles of ops/fp8_plan.h: deep_gemm_dense.cu and
// deep_gemm_grouped.cu. e4m3 rows with a scale per 128 inputs times e4m3 weights with a scale per 128 x 128 block, f32
// sums over each block, bf16 out. An output's sum over K is ascending, whatever the tile.
#include <cuda.h>

#include "ops/cuda/views.h"
#include "ops/fp8_plan.h"

namespace hylas::cuda {

struct DeepGemmArgs {
  Fp8Tile tile;
  int64_t rows = 0;
  int64_t outputs = 0;  // a multiple of 8
  int64_t inputs = 0;   // a multiple of 128
  CUtensorMap x = {}, x_scale = {}, weight = {}, out = {};
  const float* weight_scale = nullptr;  // [outputs / 128 rounded up, inputs / 128], one expert's behind the other's
  // Grouped: [rows + 1] whose weights a row takes; -1: a row that is not there. A tile's rows are of one expert. Behind
  // them the rows of the first tiles, those with any: no other is copied, multiplied or written.
  const int32_t* row_expert = nullptr;
};

void deep_gemm_dense(const DeepGemmArgs& args, Stream stream);
void deep_gemm_grouped(const DeepGemmArgs& args, Stream stream);

}  // namespace hylas::cuda
