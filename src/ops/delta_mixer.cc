// The token mixer of a linear layer, and the layer, by the operators that they consist of.
#include "ops/ops.h"

namespace hylas {

void Ops::delta_mixer(const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& b, const DeltaWeights& weights,
                      const DeltaShape& shape, const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch,
                      const Tensor& c, const ActRows& out) {
  conv_silu(u, weights.conv, conv_pool, batch, c);
  delta_rule(c, a, b, weights.a_log, weights.dt_bias, shape, delta_pool, batch, out.values);
  gated_rms_norm(out.values, z, weights.norm, weights.eps, out);
}

void Ops::delta_layer(const ActRows& x, const DeltaInputs& inputs, const DeltaWeights& weights, const DeltaShape& shape,
                      const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch, const DeltaRows& rows,
                      const LinearWeight& last, const Tensor& partials, const NormBehind* behind) {
  const int64_t tokens = rows.u.dim(0), heads = shape.value_heads;
  const LinearWeight matrices[] = {inputs.qkv, inputs.z, inputs.a, inputs.b};
  const Tensor outs[] = {rows.u, rows.z.reshaped({tokens, heads * shape.value_dim}), rows.a, rows.b};
  linear(x, matrices, outs);
  delta_mixer(rows.u, rows.z, rows.a, rows.b, weights, shape, conv_pool, delta_pool, batch, rows.c,
              rows.out.reshaped({tokens, heads, shape.value_dim}));
  linear_partial(rows.out, last, partials);
  if (behind) add_rms_norm(partials, behind->hidden, behind->weight, behind->eps, behind->out);
}

}  // namespace hylas
