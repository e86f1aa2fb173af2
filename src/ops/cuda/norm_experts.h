#pragma once
// The sum of one or two tokens' experts, the residual and its norm at once: norm_experts.cu. Bit for bit as moe_sum and
// add_rms_norm_rows do it one after the other.
#include "ops/cuda/fp8_rows.h"

namespace hylas::cuda {

struct AddExpertsArgs {
  // [tokens * k + tokens, columns]: of choice j of token t at t * k + j, then the shared expert's.
  const float* rows = nullptr;
  View weights;  // [tokens, k] f32
  int k = 0;
  View shared_logit;  // [tokens, 1] f32
  View residual;      // [tokens, columns] bf16
  const void* norm = nullptr;
  DType norm_dtype = DType::kF32;
  float eps = 0;
  View out;     // like the residual; data null: not as values
  Fp8Rows fp8;  // data null: not quantized; neither: no norm
  int64_t tokens = 0;
  int64_t columns = 0;
};
// Of all but `rows`.
bool add_experts_takes(const AddExpertsArgs& args);
// residual[t] += the sum over j in order of weights[t][j] * rows[t * k + j], then sigmoid(shared_logit[t]) * the shared
// row; out = rms_norm(residual) * (1 + norm).
void add_experts_rms_norm(const AddExpertsArgs& args, Stream stream);

}  // namespace hylas::cuda
