// The token mixer of a linear layer by the operators that it consists of.
#include "ops/ops.h"

namespace hylas {

void Ops::delta_mixer(const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& b, const DeltaWeights& weights,
                      const DeltaShape& shape, const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch,
                      const Tensor& c, const Tensor& out) {
  conv_silu(u, weights.conv, conv_pool, batch, c);
  delta_rule(c, a, b, weights.a_log, weights.dt_bias, shape, delta_pool, batch, out);
  gated_rms_norm(out, z, weights.norm, weights.eps, out);
}

}  // namespace hylas
