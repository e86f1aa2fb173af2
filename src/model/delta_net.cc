#include "model/delta_net.h"

namespace hylas {

Result<DeltaNet> DeltaNet::load(const LoadContext& context, const std::string& prefix, int32_t layer) {
  const ModelConfig& config = context.config;
  WeightSource& source = context.source;
  const Range keys = linear_key_heads(config, context.shard), values = linear_value_heads(config, context.shard);
  const int64_t key_dim = config.linear_key_dim, value_dim = config.linear_value_dim;
  DeltaNet net;
  net.shape_ = DeltaShape{.key_heads = static_cast<int32_t>(keys.count),
                          .value_heads = static_cast<int32_t>(values.count),
                          .key_dim = config.linear_key_dim,
                          .value_dim = config.linear_value_dim};
  net.mixer_.eps = config.rms_eps;
  net.layer_ = layer;
  // q | k | v are three segments, each split over the ranks on its own.
  const int64_t key_rows = config.linear_key_heads * key_dim;
  const int64_t value_rows = config.linear_value_heads * value_dim;
  const Range v{values.begin * value_dim, values.count * value_dim};
  const Range segments[] = {{keys.begin * key_dim, keys.count * key_dim},
                            {key_rows + keys.begin * key_dim, keys.count * key_dim},
                            {2 * key_rows + v.begin, v.count}};
  const Range all;
  const bool whole = values.count == config.linear_value_heads;
  const std::span<const Range> qkv = whole ? std::span(&all, 1) : std::span(segments);
  const int64_t hidden = config.hidden_size, heads = config.linear_value_heads, channels = config.channels();
  HYLAS_ASSIGN(net.inputs_.qkv, source.linear_rows(prefix + "in_proj_qkv", channels, hidden, qkv));
  HYLAS_ASSIGN(net.inputs_.z, source.linear_rows(prefix + "in_proj_z", value_rows, hidden, {&v, 1}));
  HYLAS_ASSIGN(net.inputs_.a, source.linear_rows(prefix + "in_proj_a", heads, hidden, {&values, 1}));
  HYLAS_ASSIGN(net.inputs_.b, source.linear_rows(prefix + "in_proj_b", heads, hidden, {&values, 1}));
  HYLAS_ASSIGN(Tensor conv, source.tensor_rows(prefix + "conv1d.weight", {channels, 1, 4}, qkv));
  net.mixer_.conv = conv.reshaped({net.shape_.channels(), 4});
  HYLAS_ASSIGN(net.mixer_.a_log, source.tensor_rows(prefix + "A_log", {heads}, {&values, 1}));
  HYLAS_ASSIGN(net.mixer_.dt_bias, source.tensor_rows(prefix + "dt_bias", {heads}, {&values, 1}));
  HYLAS_ASSIGN(net.mixer_.norm, source.tensor(prefix + "norm.weight", {value_dim}));
  HYLAS_ASSIGN(net.out_, source.linear_columns(prefix + "out_proj", hidden, value_rows, v));
  return net;
}

DeltaRows DeltaNet::allocate(Arena& arena, int64_t tokens, DType act) const {
  const int64_t heads = shape_.value_heads;
  return DeltaRows{
      .u = arena.allocate(act, {tokens, shape_.channels()}),
      .z = arena.allocate(act, {tokens, heads, shape_.value_dim}),
      .a = arena.allocate(DType::kF32, {tokens, heads}),
      .b = arena.allocate(DType::kF32, {tokens, heads}),
      .c = arena.allocate(act, {tokens, shape_.channels()}),
      .out = allocate_rows(arena, act, tokens, heads * shape_.value_dim),
  };
}

RowForm DeltaNet::input_form(const Step& step, DType act) const {
  const int64_t tokens = step.batch.tokens;
  RowForm form = step.ops.row_form(inputs_.qkv, act, tokens);
  for (const LinearWeight* weight : {&inputs_.z, &inputs_.a, &inputs_.b}) {
    form = form | step.ops.row_form(*weight, act, tokens);
  }
  return form;
}

std::pair<Tensor, Tensor> DeltaNet::pools(const Step& step) const {
  const StateKind* conv_kind = step.pools.layout().find("conv");
  const StateKind* delta_kind = step.pools.layout().find("delta");
  HYLAS_CHECK(conv_kind && delta_kind, "no state kinds for a linear layer");
  const int64_t slots = step.pools.slots();
  return {
      step.pools.slots_of(*conv_kind, layer_).reshaped({slots, shape_.channels(), 3}),
      step.pools.slots_of(*delta_kind, layer_).reshaped({slots, shape_.value_heads, shape_.key_dim, shape_.value_dim})};
}

RowMixer DeltaNet::row_mixer(const Step& step) const {
  const auto [conv_pool, delta_pool] = pools(step);
  return {inputs_.qkv, inputs_.z, inputs_.a, inputs_.b, mixer_, shape_, conv_pool, delta_pool};
}

void DeltaNet::forward(const Step& step, const ActRows& x, const GroupSums& sums, const NormBehind& behind) const {
  ArenaScope scope(step.arena);
  const int64_t tokens = step.batch.tokens;
  const DType act = x.values.dtype;
  DeltaRows rows = allocate(step.arena, tokens, act);
  rows.out = rows.out.in(step.ops.row_form(out_, act, tokens));

  const auto [conv_pool, delta_pool] = pools(step);
  step.ops.delta_layer(x, inputs_, mixer_, shape_, conv_pool, delta_pool, step.batch, rows, out_, sums.partials,
                       sums.group ? nullptr : &behind);
  if (sums.group) add_rms_norm(step, sums, behind);
}

}  // namespace hylas
