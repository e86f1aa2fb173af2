#pragma once
// Products x W^T: gemm_f32.cu for any types, gemm_bf16.cu on the tensor cores for bf16 activations. Both sum an output
// over K in one ascending order, whatever the number of rows and the tile: rows of a batch do not matter to each other.
#include "ops/cuda/fp8_rows.h"

namespace hylas::cuda {

constexpr int kSlicesMax = 4;

// A weight as a kernel finds it.
struct WeightView {
  const void* data = nullptr;
  int64_t stride = 0;            // elements
  const float* scale = nullptr;  // fp8 only: of blocks of 128 x 128
  int64_t scale_stride = 0;
};

// The rows of one expert, or a part of them.
struct RowRun {
  int32_t expert = 0;
  int32_t begin = 0;
  int32_t end = 0;
};

// One of several matrices over the same rows, side by side in one launch.
struct ProductPart {
  WeightView weight;
  View out;
  int64_t outputs = 0;
};
constexpr int kPartsMax = 4;

// One matrix over all rows, several over all rows, or one per expert over its own rows.
struct Product {
  View x;
  Fp8Rows x_fp8;  // the same rows quantized, for FP8 tensor cores; data null: they quantize x, which has to be there
  const int32_t* x_index = nullptr;  // row i of the product is of row x_index[i] of x; null: row i
  DType weight_dtype = DType::kF32;
  bool paired = false;                  // two matrices W, V: out = silu(x W^T) * (x V^T), each rounded to x's type
  WeightView weight, other;             // of a single product
  const WeightView* weights = nullptr;  // on the device, by expert: then `runs` tells which rows are whose
  const WeightView* others = nullptr;
  const RowRun* runs = nullptr;        // on the device
  const int32_t* run_count = nullptr;  // on the device
  int parts = 0;  // gemm_bf16 only: so many matrices `part` instead of `weight`, `out` and `outputs`
  ProductPart part[kPartsMax];
  // The kernel before this one in the stream does not write the runs, so that the weights can be fetched ahead of it.
  bool runs_are_known = false;
  int32_t runs_max = 0;
  int32_t run_rows = 0;  // at most so many rows has a run
  int64_t rows = 0;      // of a single product
  int64_t inputs = 0;
  int64_t outputs = 0;
  int slices = 1;
  int64_t slice_begin[kSlicesMax + 1] = {};
  View out;                            // [rows, outputs], f32 or bf16
  const int32_t* out_index = nullptr;  // row i of the product goes to row out_index[i] of out; null: row i
  int64_t slice_stride = 0;            // elements between slices of out
};

// Any types.
void gemm_f32(const Product& product, Stream stream);

// x bf16; weights bf16 or fp8; rows of x and of the weights at multiples of 16 bytes. Answers whether it can.
bool gemm_bf16_takes(const Product& product);
void gemm_bf16(const Product& product, Stream stream);
// gemm_small.cu: the same for bf16 weights of few outputs each. Which kernel a matrix takes depends on its shape, and
// on the rows only where more of them go to cuBLASLt.
bool gemm_small_takes(const Product& product);
void gemm_small(const Product& product, Stream stream);
// gemm_gates.cu: the same bits for more rows than gemm_small takes.
bool gemm_gates_takes(const Product& product);
void gemm_gates(const Product& product, Stream stream);
// dequantize.cu: weight [outputs, inputs] fp8 with its scales as bf16 rows of `inputs`.
void dequantize(const WeightView& weight, int64_t outputs, int64_t inputs, void* to, Stream stream);

// Rows of a run for the tile that gemm_bf16 takes at `rows_per_expert` rows on average.
int gemm_run_rows(int64_t rows_per_expert);

}  // namespace hylas::cuda
