#include "model/expert_exchange.h"

#include <algorithm>
#include <numeric>

namespace hylas {
namespace {

int64_t share_begin(int64_t tokens, int32_t parts, int32_t index) { return tokens * index / parts; }
int32_t share(int64_t tokens, int32_t parts, int32_t index) {
  return static_cast<int32_t>(share_begin(tokens, parts, index + 1) - share_begin(tokens, parts, index));
}

int32_t total(std::span<const int32_t> counts) { return std::accumulate(counts.begin(), counts.end(), 0); }

Tensor to_device(const Step& step, const std::vector<int32_t>& values, const Tensor& tensor) {
  step.ops.device().copy_from_host(tensor.data, values.data(), values.size() * sizeof(int32_t));
  return tensor;
}

// Where each (token, k) pair goes: sorted by expert rank, in token order within one.
struct Dispatch {
  std::vector<int32_t> counts;    // [expert ranks]
  std::vector<int32_t> tokens;    // [pairs] the token of each sent row
  std::vector<int32_t> ids;       // [pairs] its expert
  std::vector<int32_t> position;  // [token * k + j] the sent row of the pair
};

Dispatch make_dispatch(const std::vector<int32_t>& ids, int32_t per_token, int32_t expert_ranks, int32_t per_rank) {
  const auto pairs = static_cast<int32_t>(ids.size());
  Dispatch d{std::vector<int32_t>(expert_ranks, 0), std::vector<int32_t>(pairs), std::vector<int32_t>(pairs),
             std::vector<int32_t>(pairs)};
  for (const int32_t id : ids) ++d.counts[id / per_rank];
  std::vector<int32_t> next(expert_ranks, 0);
  std::partial_sum(d.counts.begin(), d.counts.end() - 1, next.begin() + 1);
  for (int32_t pair = 0; pair < pairs; ++pair) {
    const int32_t row = next[ids[pair] / per_rank]++;
    d.tokens[row] = pair / per_token;
    d.ids[row] = ids[pair];
    d.position[pair] = row;
  }
  return d;
}

}  // namespace

Routing allocate_routing(Arena& arena, const MoeWeights& weights, int64_t tokens) {
  return Routing{
      .logits = arena.allocate(DType::kF32, {tokens, weights.experts_total}),
      .shared_logit = arena.allocate(DType::kF32, {tokens, 1}),
      .ids = arena.allocate(DType::kI32, {tokens, weights.experts_per_token}),
      .weights = arena.allocate(DType::kF32, {tokens, weights.experts_per_token}),
  };
}

Routing route(Ops& ops, Arena& arena, const MoeWeights& weights, const ActRows& x) {
  const Routing r = allocate_routing(arena, weights, x.values.dim(0));
  if (x.values.dim(0) == 0) return r;
  const LinearWeight matrices[] = {weights.router, weights.shared_gate};
  const Tensor outs[] = {r.logits, r.shared_logit};
  ops.linear(x, matrices, outs);
  ops.moe_route(r.logits, r.ids, r.weights);
  return r;
}

struct ExpertExchange::Buffers {
  Tensor index, position;   // [sent], [tokens, k] i32
  Tensor sent_x, sent_ids;  // [sent, H] act, [sent, 1] i32
  Tensor x, ids;            // [received, H] act, [received, 1] i32
  Tensor rows;              // [slices, received, H] f32
  Tensor returned;          // [slices, sent, H] f32
  Tensor partials;          // [slices, tokens, H] f32
};

ExpertExchange::Buffers ExpertExchange::allocate_block(Arena& arena, const MoeWeights& w, int64_t sent,
                                                       int64_t received, DType act) const {
  const int64_t tokens = sent / w.experts_per_token;
  return Buffers{
      .index = arena.allocate(DType::kI32, {sent}),
      .position = arena.allocate(DType::kI32, {tokens, w.experts_per_token}),
      .sent_x = arena.allocate(act, {sent, w.hidden}),
      .sent_ids = arena.allocate(DType::kI32, {sent, 1}),
      .x = arena.allocate(act, {received, w.hidden}),
      .ids = arena.allocate(DType::kI32, {received, 1}),
      .rows = arena.allocate(DType::kF32, {w.slices, received, w.hidden}),
      .returned = arena.allocate(DType::kF32, {w.slices, sent, w.hidden}),
      .partials = arena.allocate(DType::kF32, {w.slices, tokens, w.hidden}),
  };
}

void ExpertExchange::run_block(const Step& step, const MoeWeights& w, const Tensor& x, const Tensor& out) const {
  ArenaScope scope(step.arena);
  const int32_t ranks = shard_.sizes.ep;
  const Routing routing = route(step.ops, step.arena, w, x);
  std::vector<int32_t> ids(routing.ids.elements());
  step.ops.device().copy_to_host(ids.data(), routing.ids.data, routing.ids.bytes());
  Dispatch d = make_dispatch(ids, w.experts_per_token, ranks, w.experts_total / ranks);

  std::vector<int32_t> received(ranks);
  const std::vector<int32_t> ones(ranks, 1);
  step.comms.ep->all_to_all_rows(Tensor(d.counts.data(), DType::kI32, {ranks, 1}), ones,
                                 Tensor(received.data(), DType::kI32, {ranks, 1}), ones);
  const int64_t pairs = static_cast<int64_t>(ids.size());
  const Buffers b = allocate_block(step.arena, w, pairs, total(received), x.dtype);
  if (pairs > 0) step.ops.gather_rows(x, to_device(step, d.tokens, b.index), b.sent_x);
  to_device(step, d.ids, b.sent_ids);
  to_device(step, d.position, b.position);
  step.comms.ep->all_to_all_rows(b.sent_x, d.counts, b.x, received);
  step.comms.ep->all_to_all_rows(b.sent_ids, d.counts, b.ids, received);
  step.ops.moe_expert_rows(b.x, b.ids, w.experts, b.rows, {});
  for (int64_t s = 0; s < w.slices; ++s) {
    const auto slice = [&](const Tensor& all) { return all.rows(s, 1).reshaped({all.dim(1), w.hidden}); };
    step.comms.ep->all_to_all_rows(slice(b.rows), received, slice(b.returned), d.counts);
  }
  if (pairs == 0) return;
  step.ops.moe_combine(b.returned, b.position, routing.weights, x, &w.shared, routing.shared_logit, b.partials);
  step.comms.moe->all_reduce_slices(b.partials, out);
}

struct ExpertExchange::DeviceBuffers {
  Tensor ids, index;      // [all, k] i32
  Tensor rows, returned;  // [slices, all * k or sorted, H], [slices, own * k, H], as the operators make them
  Tensor shared;          // [slices, own, H] f32
  Tensor partials;        // the same
};

ExpertExchange::DeviceBuffers ExpertExchange::allocate_device_block(Arena& arena, const MoeWeights& w, int64_t own,
                                                                    int64_t all, const ExpertRowForms& forms) const {
  const int64_t k = w.experts_per_token, rows = forms.sorted_rows > 0 ? forms.sorted_rows : all * k;
  return DeviceBuffers{
      .ids = arena.allocate(DType::kI32, {all, k}),
      .index = arena.allocate(DType::kI32, {all, k}),
      .rows = arena.allocate(forms.made, {w.slices, rows, w.hidden}),
      .returned = arena.allocate(forms.made, {w.slices, own * k, w.hidden}),
      .shared = arena.allocate(DType::kF32, {w.slices, own, w.hidden}),
      .partials = arena.allocate(DType::kF32, {w.slices, own, w.hidden}),
  };
}

ExpertRowForms ExpertExchange::forms_of(const Step& step, const MoeWeights& w, std::span<const int32_t> counts,
                                        DType act) const {
  const Tensor x(nullptr, act, {total(counts), w.hidden}), ids(nullptr, DType::kI32, {x.dim(0), w.experts_per_token});
  return step.ops.expert_row_forms(x, ids, w.experts, static_cast<int32_t>(w.slices));
}

// Rows travel as the experts' products read them; whoever made them has quantized them, if that is e4m3.
void ExpertExchange::run_device_block(const Step& step, const MoeWeights& w, const ActRows& x, int64_t begin,
                                      std::span<const int32_t> counts, bool x_is_all, const Tensor& out) const {
  ArenaScope scope(step.arena);
  ExpertDispatch& dispatch = *step.comms.experts;
  const int64_t own = counts[shard_.place.ep_rank], all = total(counts);
  const Tensor values = x.values.rows(begin, own);
  const Routing routing = route(step.ops, step.arena, w, values);
  const ExpertRowForms forms = forms_of(step, w, counts, values.dtype);
  const bool fp8 = forms.read == RowForm::kFp8 && x.has_fp8();
  const ActRows all_x = x_is_all ? x
                        : fp8    ? allocate_fp8_rows(step.arena, values.dtype, all, w.hidden)
                                 : ActRows(step.arena.allocate(values.dtype, {all, w.hidden}));
  const DeviceBuffers b = allocate_device_block(step.arena, w, own, all, forms);
  ExpertTokens tokens{.counts = counts,
                      .held = {w.experts.expert_begin, static_cast<int32_t>(w.experts.gate.size())},
                      .ids = routing.ids,
                      .all_ids = b.ids,
                      .returned = b.returned};
  if (!x_is_all) {
    tokens.x = fp8 ? x.fp8.rows(begin, own) : values;
    tokens.all_x = fp8 ? all_x.fp8 : all_x.values;
    if (fp8) tokens.scales = x.scales.columns(begin, own), tokens.all_scales = all_x.scales;
  }
  dispatch.dispatch(tokens);
  const SharedRows shared = {&w.shared, x.rows_or_values(begin, own), b.shared};
  const bool sorted = forms.sorted_rows > 0;
  if (sorted) {
    step.ops.moe_sorted_expert_rows(all_x, b.ids, w.experts, b.rows, b.index, shared);
  } else {
    step.ops.moe_expert_rows(all_x, b.ids, w.experts, b.rows, shared);
  }
  const bool whole = w.slices == 1 && step.comms.moe->size() == 1;  // nothing to add
  const Tensor partials = whole ? out.reshaped({1, own, w.hidden}) : b.partials;
  dispatch.combine({.rows = b.rows,
                    .index = sorted ? b.index : Tensor(),
                    .weights = routing.weights,
                    .shared = b.shared,
                    .shared_logit = routing.shared_logit,
                    .sums = partials});
  if (!whole && own > 0) step.comms.moe->all_reduce_slices(partials, out);
}

// Tokens that each rank of the expert group is home to.
std::vector<int32_t> ExpertExchange::home_counts(const Step& step, int64_t tokens) const {
  const int32_t ranks = shard_.sizes.ep, attn = shard_.sizes.attn_tp();
  std::vector<int32_t> counts(ranks);
  for (int32_t r = 0; r < ranks; ++r) {
    counts[r] = common_ ? share(tokens, ranks, r) : share(step.group_tokens[r / attn], attn, r % attn);
  }
  return counts;
}

std::vector<int32_t> ExpertExchange::block_counts(std::span<const int32_t> homes, int32_t from) const {
  std::vector<int32_t> counts(homes.begin(), homes.end());
  for (int32_t& one : counts) one = std::clamp(one - from, 0, dispatch_tokens_);
  return counts;
}

// The first block has the most tokens.
RowForm ExpertExchange::input_form(const Step& step, const MoeWeights& w, DType act) const {
  if (!on_device_) return RowForm::kValues;
  const std::vector<int32_t> counts = block_counts(home_counts(step, step.batch.tokens), 0);
  return RowForm::kValues | forms_of(step, w, counts, act).read;
}

Tensor ExpertExchange::forward(const Step& step, const MoeWeights& w, const ActRows& x) const {
  const int64_t tokens = x.values.dim(0);
  const Tensor sums = step.arena.allocate(DType::kF32, {1, tokens, w.hidden});
  ArenaScope scope(step.arena);
  const std::vector<int32_t> homes = home_counts(step, tokens);
  const int32_t holders = common_ ? shard_.sizes.ep : shard_.sizes.attn_tp();
  const int32_t me = common_ ? shard_.place.ep_rank : shard_.place.attn_rank;
  const int64_t begin = share_begin(tokens, holders, me), count = homes[shard_.place.ep_rank];
  const Tensor all = sums.reshaped({tokens, w.hidden});
  const auto& group = common_ ? step.comms.ep : step.comms.attn;
  const Tensor home = group ? step.arena.allocate(DType::kF32, {count, w.hidden}) : all;
  const int32_t most = *std::max_element(homes.begin(), homes.end());
  for (int32_t from = 0; from < most; from += dispatch_tokens_) {
    const std::vector<int32_t> counts = block_counts(homes, from);
    const int64_t first = std::min<int64_t>(from, count), n = counts[shard_.place.ep_rank];
    if (on_device_) {
      run_device_block(step, w, x, begin + first, counts, common_ && most <= dispatch_tokens_, home.rows(first, n));
    } else {
      run_block(step, w, x.values.rows(begin + first, n), home.rows(first, n));
    }
  }
  if (!group) return sums;
  std::vector<int32_t> counts(holders);
  for (int32_t r = 0; r < holders; ++r) counts[r] = share(tokens, holders, r);
  group->all_gather_rows(home, counts, all);
  return sums;
}

void ExpertExchange::allocate(Arena& arena, const MoeWeights& w, int64_t tokens, DType act) const {
  ArenaScope scope(arena);
  arena.allocate(DType::kF32, {1, tokens, w.hidden});
  arena.allocate(DType::kF32, {tokens, w.hidden});
  const int64_t sent = std::min<int64_t>(tokens, dispatch_tokens_);
  const int64_t everywhere = tokens * (common_ ? 1 : shard_.sizes.dp);
  const int64_t received = std::min<int64_t>(everywhere, int64_t{dispatch_tokens_} * shard_.sizes.ep);
  allocate_routing(arena, w, sent);
  if (on_device_) {
    arena.allocate(act, {received, w.hidden});            // rows in e4m3 take no more than these
    allocate_device_block(arena, w, sent, received, {});  // rows in f32 take as much as any
  } else {
    allocate_block(arena, w, sent * w.experts_per_token, received * w.experts_per_token, act);
  }
}

}  // namespace hylas
