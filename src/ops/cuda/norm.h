#pragma once
// RMS norms: norm.cu. Formulas: ops.h.
#include "ops/cuda/views.h"
#include "tensor/cuda/peers.h"

namespace hylas::cuda {

struct AddNormArgs {
  const float* partials = nullptr;  // null: nothing is added
  int slices = 0;                   // 1, 2 or 4
  int64_t slice_stride = 0;
  const PeerPartials* peers = nullptr;  // of 2, 4 or 8 ranks: theirs are added instead of `partials`; on the host
  View residual;
  const void* weight = nullptr;
  DType weight_dtype = DType::kF32;
  float eps = 0;
  View out;  // data null: no norm
  int64_t rows = 0;
  int64_t columns = 0;
};
// residual += tree(partials); out = rms_norm(residual) * (1 + weight)
void add_rms_norm_rows(const AddNormArgs& args, Stream stream);

// out = weight * x / rms(x) * silu(z) over heads of `dim` values.
void gated_rms_norm_rows(const View& x, const View& z, const void* weight, DType weight_dtype, float eps,
                         const View& out, int64_t rows, int heads, int dim, Stream stream);

}  // namespace hylas::cuda
