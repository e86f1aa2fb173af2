#include "model/mtp.h"

namespace hylas {

Result<Mtp> Mtp::load(const LoadContext& context, const TokenEmbedding& embedding) {
  const ModelConfig& config = context.config;
  WeightSource& source = context.source;
  const int64_t hidden = config.hidden_size;
  const auto layer_id = static_cast<int32_t>(config.num_layers);
  HYLAS_ASSIGN(Layer layer, Layer::load(context, "mtp.layers.0.", LayerKind::kFull, "mtp_kv", layer_id));
  Mtp mtp(std::move(layer));
  mtp.eps_ = config.rms_eps;
  mtp.hidden_size_ = hidden;
  mtp.embedding_ = embedding;
  HYLAS_ASSIGN(mtp.embedding_norm_, source.tensor("mtp.pre_fc_norm_embedding.weight", {hidden}));
  HYLAS_ASSIGN(mtp.hidden_norm_, source.tensor("mtp.pre_fc_norm_hidden.weight", {hidden}));
  HYLAS_ASSIGN(mtp.norm_, source.tensor("mtp.norm.weight", {hidden}));
  HYLAS_ASSIGN(mtp.fc_, source.linear("mtp.fc", hidden, 2 * hidden));
  return mtp;
}

Mtp::Scratch Mtp::allocate_scratch(Arena& arena, int64_t tokens, DType act) const {
  return Scratch{
      .embedded = arena.allocate(act, {tokens, hidden_size_}),
      .target = arena.allocate(act, {tokens, hidden_size_}),
      .both = arena.allocate(act, {tokens, 2 * hidden_size_}),
      .hidden = arena.allocate(act, {tokens, hidden_size_}),
  };
}

void Mtp::forward(const Step& step, const Tensor& normed, const Tensor& next_ids, const Tensor& out) const {
  ArenaScope scope(step.arena);
  const Scratch s = allocate_scratch(step.arena, step.batch.tokens, normed.dtype);
  embedding_.forward(step.ops, step.comms, step.arena, next_ids, s.embedded);
  step.ops.rms_norm(s.embedded, embedding_norm_, eps_, s.embedded);
  step.ops.rms_norm(normed, hidden_norm_, eps_, s.target);
  step.ops.concat_columns(s.embedded, s.target, s.both);
  const LinearWeight weights[] = {fc_};
  const Tensor outs[] = {s.hidden};
  step.ops.linear(s.both, weights, outs);
  step.ops.rms_norm(s.hidden, layer_.input_norm(step, out.dtype).weight, eps_, out);
  layer_.forward(step, s.hidden, out, {norm_, RowForm::kValues}, eps_);
}

void Mtp::allocate(Arena& arena, int64_t tokens, DType act) const {
  ArenaScope scope(arena);
  allocate_scratch(arena, tokens, act);
  embedding_.allocate(arena, tokens);
  layer_.allocate(arena, tokens, act);
}

}  // namespace hylas
