// The token mixer of a linear layer by the operators that it consists of.
#include "ops/ops.h"

namespace hylas {

void Ops::delta_mixer(const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& b, const DeltaWeights& weights,
                      const DeltaShape& shape, const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch,
                      const Tensor& c, const ActRows& out) {
  conv_silu(u, weights.conv, conv_pool, batch, c);
  delta_rule(c, a, b, weights.a_log, weights.dt_bias, shape, delta_pool, batch, out.values);
  gated_rms_norm(out.values, z, weights.norm, weights.eps, out);
}

}  // namespace hylas
