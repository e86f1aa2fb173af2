#include "model/feed_forward.h"

namespace hylas {

Result<Mlp> Mlp::load(const ModelConfig& config, WeightSource& source, const std::string& prefix) {
  Mlp mlp;
  mlp.width_ = config.intermediate_size;
  HYLAS_ASSIGN(mlp.gate_, source.linear(prefix + "gate_proj", mlp.width_, config.hidden_size));
  HYLAS_ASSIGN(mlp.up_, source.linear(prefix + "up_proj", mlp.width_, config.hidden_size));
  HYLAS_ASSIGN(mlp.down_, source.linear(prefix + "down_proj", config.hidden_size, mlp.width_));
  return mlp;
}

Mlp::Scratch Mlp::allocate(Arena& arena, int64_t tokens, DType act) const {
  return Scratch{.gate = arena.allocate(act, {tokens, width_}), .up = arena.allocate(act, {tokens, width_})};
}

void Mlp::forward(const Step& step, const Tensor& x, const Tensor& partials) const {
  ArenaScope scope(step.arena);
  const Scratch s = allocate(step.arena, step.batch.tokens, x.dtype);
  const LinearWeight weights[] = {gate_, up_};
  const Tensor outs[] = {s.gate, s.up};
  step.ops.linear(x, weights, outs);
  step.ops.silu_mul(s.gate, s.up, s.gate);
  step.ops.linear_partial(s.gate, down_, partials);
}

Result<Moe> Moe::load(const ModelConfig& config, WeightSource& source, const std::string& prefix) {
  Moe moe;
  moe.experts_total_ = config.experts;
  moe.experts_per_token_ = config.experts_per_token;
  const int64_t hidden = config.hidden_size;
  const int64_t shared = config.shared_intermediate_size;
  HYLAS_ASSIGN(moe.router_, source.linear(prefix + "gate", config.experts, hidden));
  HYLAS_ASSIGN(moe.shared_gate_, source.linear(prefix + "shared_expert_gate", 1, hidden));
  HYLAS_ASSIGN(moe.experts_,
               source.experts(prefix + "experts", 0, config.experts, hidden, config.moe_intermediate_size));
  HYLAS_ASSIGN(moe.shared_.gate, source.linear(prefix + "shared_expert.gate_proj", shared, hidden));
  HYLAS_ASSIGN(moe.shared_.up, source.linear(prefix + "shared_expert.up_proj", shared, hidden));
  HYLAS_ASSIGN(moe.shared_.down, source.linear(prefix + "shared_expert.down_proj", hidden, shared));
  return moe;
}

Moe::Scratch Moe::allocate(Arena& arena, int64_t tokens, DType) const {
  return Scratch{
      .logits = arena.allocate(DType::kF32, {tokens, experts_total_}),
      .shared_logit = arena.allocate(DType::kF32, {tokens, 1}),
      .ids = arena.allocate(DType::kI32, {tokens, experts_per_token_}),
      .weights = arena.allocate(DType::kF32, {tokens, experts_per_token_}),
  };
}

void Moe::forward(const Step& step, const Tensor& x, const Tensor& partials) const {
  ArenaScope scope(step.arena);
  const Scratch s = allocate(step.arena, step.batch.tokens, x.dtype);
  const LinearWeight weights[] = {router_, shared_gate_};
  const Tensor outs[] = {s.logits, s.shared_logit};
  step.ops.linear(x, weights, outs);
  step.ops.moe_route(s.logits, s.ids, s.weights);
  step.ops.moe(x, s.ids, s.weights, experts_, &shared_, s.shared_logit, partials);
}

Result<FeedForward> FeedForward::load(const ModelConfig& config, WeightSource& source, const std::string& prefix) {
  if (config.experts > 0) {
    HYLAS_ASSIGN(Moe moe, Moe::load(config, source, prefix));
    return FeedForward(std::move(moe));
  }
  HYLAS_ASSIGN(Mlp mlp, Mlp::load(config, source, prefix));
  return FeedForward(std::move(mlp));
}

}  // namespace hylas
