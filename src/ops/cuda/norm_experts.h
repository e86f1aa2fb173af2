#pragma once
// The sum of the experts of tokens, the residual and its norm at once: norm_experts.cu. Bit for bit as moe_sum and
// add_rms_norm_rows do it one after the other.
#include "ops/cuda/moe_kernels.h"
#include "ops/cuda/norm.h"

namespace hylas::cuda {

// Of one or two tokens.
struct AddExpertsArgs {
  // [tokens * k + tokens, columns]: of choice j of token t at t * k + j, then the shared expert's.
  const float* rows = nullptr;
  View weights;  // [tokens, k] f32
  int k = 0;
  View shared_logit;   // [tokens, 1] f32
  AddNormArgs behind;  // without partials
};
// Of all but `rows`.
bool add_experts_takes(const AddExpertsArgs& args);
// residual[t] += the sum over j in order of weights[t][j] * rows[t * k + j], then sigmoid(shared_logit[t]) * the shared
// row; out = rms_norm(residual) * (1 + norm).
void add_experts_rms_norm(const AddExpertsArgs& args, Stream stream);

// Whether moe_sum and the norm behind it go in one launch, without the sums: rows of whole tiles and the shared
// expert's in bf16.
bool sum_experts_takes(const CombineArgs& sum, const AddNormArgs& behind);
// moe_sum of the tokens [begin, begin + sum.tokens), and where `behind` is given the norm of these rows, whose partials
// are the sums'.
void sum_experts(const CombineArgs& sum, const AddNormArgs* behind, int64_t begin, Stream stream);

}  // namespace hylas::cuda
