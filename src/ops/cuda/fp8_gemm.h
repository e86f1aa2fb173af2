#pragma once
// Products on the FP8 tensor cores: activations quantized in groups of 128, FP8 weights as they are stored. What is
// chosen with --fp8-gemm-backend deep_gemm and --moe-runner-backend deep_gemm.
#include "ops/cuda/gemm.h"
#include "ops/cuda/quantize.h"
#include "ops/cuda/workspace.h"
#include "ops/fp8_plan.h"

namespace hylas::cuda {

// Room for `rows` rows of `inputs` values. Bytes that it takes: fp8_rows_bytes (ops/fp8_plan.h).
Fp8Rows take_fp8_rows(Workspace& workspace, int64_t rows, int64_t inputs);
// `ready`, or where that is empty x [rows, inputs] (bf16, at multiples of 16 bytes), quantized to the workspace.
Fp8Rows ready_or_quantized(Workspace& workspace, const Fp8Rows& ready, const View& x, int64_t rows, int64_t inputs,
                           Stream stream);

// Whether x can be quantized, if it is not, and the weight be multiplied as it lies: bf16 x, fp8 weight with scales one
// row behind the other, inputs a multiple of 128, outputs of 8.
bool fp8_takes(const Product& product);

// out [rows, outputs] = x W^T: bf16, rows at multiples of 16 bytes. `blocks`: fp8_dense_tile.
void fp8_multiply(const Fp8Rows& x, const WeightView& weight, int64_t outputs, const View& out, Stream stream,
                  int32_t blocks = kFp8Blocks);
// The same with `experts` weights one behind the other; row i takes those of row_expert[i], up to row_expert[x.rows]
// (deep_gemm.h).
void fp8_multiply_grouped(const Fp8Rows& x, const WeightView& weights, int64_t outputs, int64_t experts,
                          const Fp8Tile& tile, const int32_t* row_expert, const View& out, Stream stream);

// A single product of fp8_takes. An f32 out gets the bf16 result; of several slices the first gets the whole sum, the
// others zeros.
void fp8_run(const Product& product, Workspace& workspace, Stream stream, int32_t blocks = kFp8Blocks);
// What it takes of the workspace.
size_t fp8_run_bytes(const Product& product);
// Zeros to all slices but the first.
void clear_other_slices(const Product& product, Stream stream);
// The same as fp8_run of a product that gemm_fp8_rows_takes, by that kernel: an f32 out gets the sum as it is.
void fp8_run_few(const Product& product, Stream stream);

}  // namespace hylas::cuda
