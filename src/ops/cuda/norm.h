#pragma once
// RMS norms: norm.cu, gated_norm.cu. Formulas: ops.h.
#include "ops/cuda/fp8_rows.h"
#include "tensor/cuda/peers.h"

namespace hylas::cuda {

struct AddNormArgs {
  const void* partials = nullptr;     // null: nothing is added
  DType partial_dtype = DType::kF32;  // or bf16
  int slices = 0;                     // 1, 2 or 4
  int64_t slice_stride = 0;
  const PeerPartials* peers = nullptr;  // of 2, 4 or 8 ranks: theirs are added instead of `partials`; on the host
  View residual;
  const void* weight = nullptr;
  DType weight_dtype = DType::kF32;
  float eps = 0;
  View out;     // data null: not as values
  Fp8Rows fp8;  // data null: not quantized; neither: no norm
  int64_t rows = 0;
  int64_t columns = 0;
};
// Whether several columns are taken at a time; else, or with an f32 residual, nothing is quantized.
bool add_rms_norm_is_wide(const AddNormArgs& args);
// residual += tree(partials); out = rms_norm(residual) * (1 + weight)
void add_rms_norm_rows(const AddNormArgs& args, Stream stream);

struct GatedNormArgs {
  View x, z;
  const void* weight = nullptr;  // [dim]
  DType weight_dtype = DType::kF32;
  float eps = 0;
  View out;     // data null: not as values
  Fp8Rows fp8;  // data null: not quantized
  int64_t rows = 0;
  int heads = 0, dim = 0;
};
// Whether the rows may be quantized: bf16 heads of 128 values at multiples of 16 bytes.
bool gated_rms_norm_is_wide(const GatedNormArgs& args);
// out = weight * x / rms(x) * silu(z) over heads of `dim` values.
void gated_rms_norm_rows(const GatedNormArgs& args, Stream stream);

}  // namespace hylas::cuda
