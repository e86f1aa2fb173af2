// OpsCuda: the operators of the token mixers, which read and write caches and states.
#include "ops/cuda/attention.h"
#include "ops/cuda/attention_fa3.h"
#include "ops/cuda/conv.h"
#include "ops/cuda/delta.h"
#include "ops/cuda/delta_flashinfer.h"
#include "ops/cuda/delta_mixer.h"
#include "ops/cuda/ops_cuda.h"
#include "ops/cuda/rope.h"

namespace hylas::cuda {
namespace {

ConvArgs conv_args(const Tensor& u, const Tensor& weight, const Tensor& pool, const Batch& batch, const Tensor& out) {
  const int64_t channels = u.dim(1);
  check_act(u);
  HYLAS_CHECK(out.dtype == u.dtype && pool.dtype == u.dtype, "conv state of type {} for inputs of type {}",
              dtype_name(pool.dtype), dtype_name(u.dtype));
  HYLAS_CHECK(weight.dim(0) == channels && pool.dim(1) == channels && pool.dim(2) == 3 && weight.row_elements() == 4 &&
                  weight.contiguous(),
              "conv weight [{}, {}] and state [{}, {}] for {} channels", weight.dim(0), weight.row_elements(),
              pool.dim(1), pool.dim(2), channels);
  return {.u = view(u),
          .weight = weight.data,
          .weight_dtype = weight.dtype,
          .pool = pool.data,
          .slot_stride = pool.row_stride,
          .out = view(out),
          .channels = static_cast<int>(channels),
          .batch = view(batch)};
}

DeltaArgs delta_args(const Tensor& qkv, const Tensor& a, const Tensor& b, const Tensor& a_log, const Tensor& dt_bias,
                     const DeltaShape& shape, const Tensor& pool, const Batch& batch, const Tensor& out) {
  check_act(qkv);
  HYLAS_CHECK(out.dtype == qkv.dtype && qkv.row_elements() == shape.channels() &&
                  out.row_elements() == shape.value_heads * shape.value_dim,
              "delta rule over {} channels of {}", qkv.row_elements(), shape.channels());
  HYLAS_CHECK(pool.dim(1) == shape.value_heads && pool.dim(2) == shape.key_dim && pool.dim(3) == shape.value_dim &&
                  shape.key_dim % 4 == 0 && shape.key_dim <= kDeltaDimMax,
              "delta rule states [{}, {}, {}]", pool.dim(1), pool.dim(2), pool.dim(3));
  return {.qkv = view(qkv),
          .a = view(a),
          .b = view(b),
          .out = view(out),
          .a_log = a_log.data,
          .a_log_dtype = a_log.dtype,
          .dt_bias = dt_bias.data,
          .dt_bias_dtype = dt_bias.dtype,
          .key_heads = shape.key_heads,
          .value_heads = shape.value_heads,
          .key_dim = shape.key_dim,
          .value_dim = shape.value_dim,
          .pool = pool.data,
          .pool_dtype = pool.dtype,
          .slot_stride = pool.row_stride,
          .batch = view(batch)};
}

}  // namespace

void OpsCuda::rope_table(const Tensor& positions, const RopeConfig& rope, const Tensor& table) {
  const int64_t tokens = table.dim(0);
  HYLAS_CHECK(positions.dim(0) == 1 || positions.dim(0) == 3, "positions of {} axes", positions.dim(0));
  HYLAS_CHECK(table.dim(1) == rope.rotary_dim && positions.dim(1) >= tokens && rope.rotary_dim % 2 == 0,
              "rope table of {} columns for {} dimensions", table.dim(1), rope.rotary_dim);
  rope_rows({.positions = positions.as<int32_t>(),
             .positions_stride = positions.row_stride,
             .axes = static_cast<int>(positions.dim(0)),
             .sections = {rope.sections[0], rope.sections[1], rope.sections[2]},
             .rotary_dim = rope.rotary_dim,
             .theta = static_cast<double>(rope.theta),
             .table = view(table),
             .tokens = tokens},
            stream());
}

void OpsCuda::qk_norm_rope_kv_write(const Tensor& qg, const Tensor& k, const Tensor& v, const Tensor& q_norm,
                                    const Tensor& k_norm, float eps, const Tensor& rope_table, const Batch& batch,
                                    const KvPool& kv, const Tensor& q_out) {
  const int64_t dim = q_norm.dim(0), heads = q_out.row_elements() / dim, kv_heads = k.row_elements() / dim;
  check_act(qg);
  HYLAS_CHECK(k.dtype == qg.dtype && v.dtype == qg.dtype && q_out.dtype == qg.dtype && k_norm.dtype == q_norm.dtype &&
                  kv.k.dtype == kv.v.dtype && kv.k.row_stride == kv.v.row_stride,
              "q, k and v of one element type");
  HYLAS_CHECK(dim % 8 == 0 && dim <= kHeadDimMax && kv.k.dim(1) == kv_heads && kv.k.dim(3) == dim &&
                  kv.k.dim(2) == batch.page_size && qg.row_elements() == 2 * heads * dim,
              "head dimension {} and pages [{}, {}, {}]", dim, kv.k.dim(1), kv.k.dim(2), kv.k.dim(3));
  qk_rope_rows({.qg = view(qg),
                .k = view(k),
                .v = view(v),
                .q_norm = q_norm.data,
                .k_norm = k_norm.data,
                .norm_dtype = q_norm.dtype,
                .eps = eps,
                .rope = view(rope_table),
                .rotary_dim = static_cast<int>(rope_table.dim(1)),
                .heads = static_cast<int>(heads),
                .kv_heads = static_cast<int>(kv_heads),
                .head_dim = static_cast<int>(dim),
                .batch = view(batch),
                .k_pages = kv.k.data,
                .v_pages = kv.v.data,
                .kv_dtype = kv.k.dtype,
                .page_stride = kv.k.row_stride,
                .pages = kv.k.dim(0),
                .q_out = view(q_out)},
               stream());
}

void OpsCuda::attention(const Tensor& q, const Tensor& qg, const Batch& batch, const KvPool& kv, float scale,
                        const ActRows& rows) {
  const Tensor& out = rows.values;
  const int64_t dim = kv.k.dim(3), kv_heads = kv.k.dim(1), heads = q.row_elements() / dim;
  check_act(q);
  HYLAS_CHECK(
      qg.dtype == q.dtype && out.dtype == q.dtype && kv.k.dtype == kv.v.dtype && kv.k.row_stride == kv.v.row_stride,
      "q, gate and out of one type");
  HYLAS_CHECK(dim % 8 == 0 && dim <= kHeadDimMax && heads % kv_heads == 0 && heads / kv_heads <= kGroupMax &&
                  kv.k.dim(2) == batch.page_size,
              "{} heads of {} over {} kv heads in pages of {}", heads, dim, kv_heads, kv.k.dim(2));
  const AttentionArgs args = {.q = view(q),
                              .qg = view(qg),
                              .out = view(out),
                              .fp8 = fp8_view(rows),
                              .k_pages = kv.k.data,
                              .v_pages = kv.v.data,
                              .kv_dtype = kv.k.dtype,
                              .page_stride = kv.k.row_stride,
                              .heads = static_cast<int>(heads),
                              .kv_heads = static_cast<int>(kv_heads),
                              .head_dim = static_cast<int>(dim),
                              .scale = scale,
                              .batch = view(batch)};
  if (!attention_bf16_takes(args)) {
    attention_any(args, 0, stream());
    return quantize(rows, 0);
  }
  workspace_.reset();
  const size_t bytes = workspace_.bytes_left();
  attention_decode(args, device_->multiprocessors(), static_cast<float*>(memory_.data()), bytes, stream());
  if (prefill_.attention && attention_fa3_takes(args)) {
    attention_fa3(args, workspace_, stream());
  } else {
    attention_prefill(args, stream());
  }
  quantize(rows, batch.decode_rows);
}

void OpsCuda::conv_silu(const Tensor& u, const Tensor& weight, const Tensor& pool, const Batch& batch,
                        const Tensor& out) {
  conv_rows(conv_args(u, weight, pool, batch, out), stream());
}

void OpsCuda::delta_rule(const Tensor& qkv, const Tensor& a, const Tensor& b, const Tensor& a_log,
                         const Tensor& dt_bias, const DeltaShape& shape, const Tensor& pool, const Batch& batch,
                         const Tensor& out) {
  const DeltaArgs args = delta_args(qkv, a, b, a_log, dt_bias, shape, pool, batch, out);
  delta_decode(args, stream());
  workspace_.reset();
  if (prefill_.delta && delta_flashinfer_takes(args)) return delta_flashinfer(args, false, workspace_, stream());
  if (delta_prefill_bf16_takes(args)) return delta_prefill_bf16(args, stream());
  delta_prefill(args, stream());
}

DeltaMixerArgs OpsCuda::mixer_args(const DeltaRows& rows, const DeltaWeights& weights, const DeltaShape& shape,
                                   const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch) {
  const Tensor &u = rows.u, &z = rows.z, &out = rows.out.values;
  HYLAS_CHECK(z.dtype == u.dtype && z.row_elements() == out.row_elements() && weights.norm.dim(0) == shape.value_dim,
              "a gate of {} for {} heads of {}", z.row_elements(), shape.value_heads, shape.value_dim);
  return {.conv = conv_args(u, weights.conv, conv_pool, batch, rows.c),
          .delta = delta_args(rows.c, rows.a, rows.b, weights.a_log, weights.dt_bias, shape, delta_pool, batch, out),
          .z = view(z),
          .norm = weights.norm.data,
          .norm_dtype = weights.norm.dtype,
          .eps = weights.eps,
          .has_values = rows.out.has_values(),
          .fp8 = fp8_view(rows.out)};
}

void OpsCuda::delta_mixer(const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& b,
                          const DeltaWeights& weights, const DeltaShape& shape, const Tensor& conv_pool,
                          const Tensor& delta_pool, const Batch& batch, const Tensor& c, const ActRows& out) {
  DeltaMixerArgs args = mixer_args({u, z, a, b, c, out}, weights, shape, conv_pool, delta_pool, batch);
  if (delta_mixer_takes(args)) return delta_mixer_decode(args, stream());
  if (prefill_.delta && delta_flashinfer_takes(args.delta) && conv_normalises(args.conv)) {
    // The convolution normalises queries and keys where they are.
    args.conv.normalised = 2 * shape.key_heads;
    conv_rows(args.conv, stream());
    delta_decode(args.delta, stream());
    workspace_.reset();
    delta_flashinfer(args.delta, true, workspace_, stream());
    return gated_rms_norm(out.values, z, weights.norm, weights.eps, out);
  }
  Ops::delta_mixer(u, z, a, b, weights, shape, conv_pool, delta_pool, batch, c, out);
}

}  // namespace hylas::cuda
