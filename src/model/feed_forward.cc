#include "model/feed_forward.h"

#include <numeric>

namespace hylas {
namespace {

int64_t total(std::span<const int32_t> counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

// The tokens of all dp groups, in their order; x itself with one group.
ActRows gather_groups(const Step& step, const ActRows& x) {
  if (!step.comms.dp) return x;
  const Tensor all = step.arena.allocate(x.values.dtype, {total(step.group_tokens), x.values.dim(1)});
  step.comms.dp->all_gather_rows(x.values, step.group_tokens, all);
  return all;
}

// Of sums [1, all tokens, H] those of this rank's group.
Tensor own_group(const Step& step, int32_t dp_group, const Tensor& sums) {
  if (!step.comms.dp) return sums;
  const int64_t begin = total(step.group_tokens.first(dp_group)), count = step.group_tokens[dp_group];
  return sums.reshaped({sums.dim(1), sums.dim(2)}).rows(begin, count).reshaped({1, count, sums.dim(2)});
}

// Partial sums of tokens that were gathered from the dp groups are added at once: a group that is idle takes part in
// the sum, and does nothing with it.
GroupSums sums_of(const Step& step, bool gathered, int32_t dp_group, const Tensor& partials) {
  if (!gathered) return {partials, step.comms.stage.get()};
  return {own_group(step, dp_group, sum_over(step.comms.stage.get(), partials))};
}

// A dp group without tokens in this step has no norm.
void add_norm_of_tokens(const Step& step, const GroupSums& sums, const NormBehind& behind) {
  if (step.batch.tokens > 0) add_rms_norm(step, sums, behind);
}

}  // namespace

Result<Mlp> Mlp::load(const LoadContext& context, const std::string& prefix) {
  const ModelConfig& config = context.config;
  WeightSource& source = context.source;
  const Range widths = dense_widths(config, context.shard);
  Mlp mlp;
  mlp.width_ = widths.count;
  mlp.hidden_ = config.hidden_size;
  mlp.dp_ = context.shard.sizes.dp;
  mlp.dp_group_ = context.shard.place.dp_group;
  mlp.slices_ = slices_of(context.shard.sizes.tp, context.linear_slices_total);
  const int64_t width = config.intermediate_size, hidden = config.hidden_size;
  HYLAS_ASSIGN(mlp.gate_, source.linear_rows(prefix + "gate_proj", width, hidden, {&widths, 1}));
  HYLAS_ASSIGN(mlp.up_, source.linear_rows(prefix + "up_proj", width, hidden, {&widths, 1}));
  HYLAS_ASSIGN(mlp.down_, source.linear_columns(prefix + "down_proj", hidden, width, widths));
  return mlp;
}

// Rows that travel do so as values.
RowForm Mlp::input_form(const Step& step, DType act) const {
  if (step.comms.dp) return RowForm::kValues;
  return step.ops.row_form(gate_, act, step.batch.tokens) | step.ops.row_form(up_, act, step.batch.tokens);
}

void Mlp::forward(const Step& step, const ActRows& own, const NormBehind& behind) const {
  const ActRows x = gather_groups(step, own);
  const DType act = x.values.dtype;
  const int64_t tokens = x.values.dim(0);
  const DType type =
      step.comms.dp ? DType::kF32 : partial_type(step, step.comms.stage.get(), down_, act, slices_, tokens);
  const Tensor partials = step.arena.allocate(type, {slices_, tokens, hidden_});
  ArenaScope scope(step.arena);
  const ActRows gate = allocate_rows(step.arena, act, tokens, width_).in(step.ops.silu_mul_form(down_, act, tokens));
  const Tensor up = step.arena.allocate(act, {tokens, width_});
  step.ops.linear_silu_mul(x, gate_, up_, gate, up);
  step.ops.linear_partial(gate, down_, partials);
  add_norm_of_tokens(step, sums_of(step, step.comms.dp != nullptr, dp_group_, partials), behind);
}

void Mlp::allocate(Arena& arena, int64_t tokens, DType act) const {
  ArenaScope scope(arena);
  const int64_t all = tokens * dp_;
  if (dp_ > 1) arena.allocate(act, {all, hidden_});
  arena.allocate(DType::kF32, {slices_, all, hidden_});
  allocate_rows(arena, act, all, width_);
  arena.allocate(act, {all, width_});
}

Result<Moe> Moe::load(const LoadContext& context, const std::string& prefix) {
  const ModelConfig& config = context.config;
  const Shard& shard = context.shard;
  WeightSource& source = context.source;
  Moe moe;
  moe.dp_ = shard.sizes.dp;
  moe.dp_group_ = shard.place.dp_group;
  moe.expert_ranks_ = shard.sizes.ep;
  // Ranks that share an expert need the same tokens: with several dp groups, all of them.
  moe.gathers_ = shard.sizes.dp > 1 && shard.sizes.moe_tp() > 1;
  moe.exchange_ =
      ExpertExchange(shard, shard.sizes.dp == 1 || moe.gathers_, context.dispatch_tokens, context.dispatches_on_device);
  MoeWeights& weights = moe.weights_;
  weights.experts_total = config.experts;
  weights.experts_per_token = config.experts_per_token;
  weights.hidden = config.hidden_size;
  weights.slices = slices_of(shard.sizes.moe_tp(), context.expert_slices_total);
  const int64_t hidden = config.hidden_size, shared = config.shared_intermediate_size;
  const Range columns = shared_widths(config, shard);
  HYLAS_ASSIGN(weights.router, source.linear(prefix + "gate", config.experts, hidden));
  HYLAS_ASSIGN(weights.shared_gate, source.linear(prefix + "shared_expert_gate", 1, hidden));
  HYLAS_ASSIGN(weights.experts, source.experts(prefix + "experts", experts_held(config, shard), hidden,
                                               config.moe_intermediate_size, expert_widths(config, shard)));
  weights.experts.experts_total = config.experts;
  const std::string name = prefix + "shared_expert.";
  HYLAS_ASSIGN(weights.shared.gate, source.linear_rows(name + "gate_proj", shared, hidden, {&columns, 1}));
  HYLAS_ASSIGN(weights.shared.up, source.linear_rows(name + "up_proj", shared, hidden, {&columns, 1}));
  HYLAS_ASSIGN(weights.shared.down, source.linear_columns(name + "down_proj", hidden, shared, columns));
  return moe;
}

RowForm Moe::input_form(const Step& step, DType act) const {
  if (gathers_) return RowForm::kValues;
  if (expert_ranks_ > 1) return exchange_.input_form(step, weights_, act);
  const int64_t tokens = step.batch.tokens;
  return step.ops.row_form(weights_.router, act, tokens) | step.ops.row_form(weights_.shared_gate, act, tokens) |
         step.ops.row_form(weights_.experts, weights_.experts_per_token, act, tokens);
}

void Moe::forward(const Step& step, const ActRows& own, const NormBehind& behind) const {
  const ActRows x = gathers_ ? gather_groups(step, own) : own;
  if (expert_ranks_ > 1) {
    const Tensor sums = exchange_.forward(step, weights_, x);
    return add_norm_of_tokens(step, {gathers_ ? own_group(step, dp_group_, sums) : sums}, behind);
  }
  const Tensor partials = step.arena.allocate(DType::kF32, {weights_.slices, x.values.dim(0), weights_.hidden});
  ArenaScope scope(step.arena);
  const Routing r = route(step.ops, step.arena, weights_, x);
  if (!gathers_ && !step.comms.stage && step.batch.tokens > 0) {
    return step.ops.moe_add_rms_norm(x, r.ids, r.weights, weights_.experts, &weights_.shared, r.shared_logit, partials,
                                     behind.hidden, behind.weight, behind.eps, behind.out);
  }
  step.ops.moe(x, r.ids, r.weights, weights_.experts, &weights_.shared, r.shared_logit, partials);
  add_norm_of_tokens(step, sums_of(step, gathers_, dp_group_, partials), behind);
}

void Moe::allocate(Arena& arena, int64_t tokens, DType act) const {
  ArenaScope scope(arena);
  const int64_t all = gathers_ ? tokens * dp_ : tokens;
  if (gathers_) arena.allocate(act, {all, weights_.hidden});
  if (expert_ranks_ > 1) return exchange_.allocate(arena, weights_, all, act);
  arena.allocate(DType::kF32, {weights_.slices, all, weights_.hidden});
  allocate_routing(arena, weights_, all);
}

Result<FeedForward> FeedForward::load(const LoadContext& context, const std::string& prefix) {
  if (context.config.experts > 0) {
    HYLAS_ASSIGN(Moe moe, Moe::load(context, prefix));
    return FeedForward(std::move(moe));
  }
  HYLAS_ASSIGN(Mlp mlp, Mlp::load(context, prefix));
  return FeedForward(std::move(mlp));
}

}  // namespace hylas
