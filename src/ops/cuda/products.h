#pragma once
// From tensors of ops.h to the kernels' arguments.
#include "ops/batch.h"
#include "ops/cuda/gemm.h"
#include "ops/ops.h"

namespace hylas::cuda {

inline View view(const Tensor& tensor) { return {tensor.data, tensor.dtype, tensor.row_stride}; }
BatchView view(const Batch& batch);
WeightView view(const LinearWeight& weight);

// Rows in e4m3, if they are there.
Fp8Rows fp8_view(const ActRows& rows);
// The product of x and one matrix, whole; its `out` is the caller's.
Product product_of(const ActRows& x, const LinearWeight& weight);
// Slices of the inputs of `weight` as linear_partial cuts them.
void set_slices(Product& product, int slices);
// `product`, of a single matrix, as one more of the matrices of `together`.
void add_part(Product& together, const Product& product);
// Runs it on the tensor cores where the types and places allow it.
void multiply(const Product& product, Stream stream);

// f32 or bf16; aborts on another type.
void check_act(const Tensor& tensor);
// A weight of a type that the kernels take, with its scale.
void check_weight(const LinearWeight& weight);

}  // namespace hylas::cuda
