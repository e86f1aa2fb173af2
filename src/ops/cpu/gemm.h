#pragma once
// Products x W^T: from tensors to the values that the kernels take (gemm_types.h), and the choice of the kernels.
#include "ops/cpu/gemm_types.h"
#include "ops/cpu/isa.h"
#include "ops/ops.h"

namespace hylas::cpu {

static_assert(kSlicesMax == kSlicesTotal && kScaleBlock == kFp8Block);

// The slices of `inputs` as Ops::linear_partial defines them (count 1: all of it).
SliceTable make_slices(int64_t inputs, WeightFormat format, int count);

// A product over `weight` whose out fields are still to be set.
Product make_product(const LinearWeight& weight, int slices);

// Scratch floats that multiply() needs for `rows` rows and `outputs` outputs.
int64_t multiply_scratch(const Product& product, int64_t rows, int64_t outputs, int lanes);

// Outputs of one piece of work whose weights, as they are multiplied, take `bytes`; whole tiles.
int64_t piece_outputs(const Product& product, int64_t rows, int64_t bytes);

const GemmKernels& gemm_kernels(Isa isa);

}  // namespace hylas::cpu
