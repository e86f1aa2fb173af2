#include "model/gated_attention.h"

#include <cmath>

namespace hylas {

Result<GatedAttention> GatedAttention::load(const LoadContext& context, const std::string& prefix,
                                            const std::string& kind, int32_t layer) {
  const ModelConfig& config = context.config;
  WeightSource& source = context.source;
  const Range heads = query_heads(config, context.shard), kv = kv_heads(config, context.shard);
  GatedAttention attention;
  attention.heads_ = heads.count;
  attention.kv_heads_ = kv.count;
  attention.head_dim_ = config.head_dim;
  attention.eps_ = config.rms_eps;
  attention.kind_ = kind;
  attention.layer_ = layer;
  const int64_t hidden = config.hidden_size, dim = config.head_dim;
  const Range q_rows{heads.begin * 2 * dim, heads.count * 2 * dim}, kv_rows{kv.begin * dim, kv.count * dim};
  const Range columns{heads.begin * dim, heads.count * dim};
  HYLAS_ASSIGN(attention.q_, source.linear_rows(prefix + "q_proj", 2 * config.heads * dim, hidden, {&q_rows, 1}));
  HYLAS_ASSIGN(attention.k_, source.linear_rows(prefix + "k_proj", config.kv_heads * dim, hidden, {&kv_rows, 1}));
  HYLAS_ASSIGN(attention.v_, source.linear_rows(prefix + "v_proj", config.kv_heads * dim, hidden, {&kv_rows, 1}));
  HYLAS_ASSIGN(attention.o_, source.linear_columns(prefix + "o_proj", hidden, config.heads * dim, columns));
  HYLAS_ASSIGN(attention.q_norm_, source.tensor(prefix + "q_norm.weight", {dim}));
  HYLAS_ASSIGN(attention.k_norm_, source.tensor(prefix + "k_norm.weight", {dim}));
  return attention;
}

GatedAttention::Scratch GatedAttention::allocate(Arena& arena, int64_t tokens, DType act) const {
  return Scratch{
      .qg = arena.allocate(act, {tokens, heads_, 2 * head_dim_}),
      .k = arena.allocate(act, {tokens, kv_heads_, head_dim_}),
      .v = arena.allocate(act, {tokens, kv_heads_, head_dim_}),
      .q = arena.allocate(act, {tokens, heads_, head_dim_}),
      .out = allocate_rows(arena, act, tokens, heads_ * head_dim_),
  };
}

RowForm GatedAttention::input_form(const Step& step, DType act) const {
  RowForm form = step.ops.row_form(q_, act, step.batch.tokens);
  for (const LinearWeight* weight : {&k_, &v_}) form = form | step.ops.row_form(*weight, act, step.batch.tokens);
  return form;
}

std::array<Tensor, 3> GatedAttention::inputs_of(const Scratch& s) const {
  const int64_t tokens = s.q.dim(0);
  return {s.qg.reshaped({tokens, heads_ * 2 * head_dim_}), s.k.reshaped({tokens, kv_heads_ * head_dim_}),
          s.v.reshaped({tokens, kv_heads_ * head_dim_})};
}

ActRows GatedAttention::attend(const Step& step, const Scratch& s) const {
  const int64_t tokens = step.batch.tokens;
  const StateKind* kind = step.pools.layout().find(kind_);
  HYLAS_CHECK(kind != nullptr, "no state kind {}", kind_);
  const KvPool kv{step.pools.pages_of(*kind, layer_, 0), step.pools.pages_of(*kind, layer_, 1)};
  step.ops.qk_norm_rope_kv_write(s.qg, s.k, s.v, q_norm_, k_norm_, eps_, step.rope_table, step.batch, kv, s.q);
  const float scale = 1.f / std::sqrt(static_cast<float>(head_dim_));
  const ActRows out = s.out.in(step.ops.row_form(o_, s.q.dtype, tokens));
  step.ops.attention(s.q, s.qg, step.batch, kv, scale, out.reshaped({tokens, heads_, head_dim_}));
  return out;
}

void GatedAttention::forward(const Step& step, const ActRows& x, const GroupSums& sums,
                             const NormBehind& behind) const {
  ArenaScope scope(step.arena);
  const Scratch scratch = allocate(step.arena, step.batch.tokens, x.values.dtype);
  step.ops.linear(x, inputs(), inputs_of(scratch));
  step.ops.linear_partial(attend(step, scratch), o_, sums.partials);
  add_rms_norm(step, sums, behind);
}

}  // namespace hylas
