#pragma once
// What every module of the model needs to be loaded and for one step, and nothing else.
#include <span>

#include "cache/state_pools.h"
#include "comm/rank_comms.h"
#include "model/config.h"
#include "model/sharding.h"
#include "ops/ops.h"
#include "tensor/arena.h"
#include "weights/source.h"

namespace hylas {

struct LoadContext {
  const ModelConfig& config;
  const Shard& shard;
  WeightSource& source;
  int32_t dispatch_tokens;
  int32_t expert_slices_total;  // the operators' (ops.h)
  int32_t linear_slices_total;
  bool dispatches_on_device;  // RankComms::experts is there
};

struct Step {
  Ops& ops;
  const Batch& batch;
  StatePools& pools;
  Arena& arena;
  const RankComms& comms;
  // Tokens of every dp group in this step, [dp]; this rank's batch is its own group's.
  std::span<const int32_t> group_tokens;
  Tensor rope_table;  // [tokens, rotary_dim] f32
};

// The sum of a row-parallel product over a group, ready for add_rms_norm: partials [S, T, H] f32 as they are on a lone
// rank, [1, T, H] f32 (in their place) otherwise.
inline Tensor sum_over(Comm* group, const Tensor& partials) {
  if (!group || partials.dim(1) == 0) return partials;
  const Tensor first = partials.rows(0, 1);
  group->all_reduce_slices(partials, first.reshaped({partials.dim(1), partials.dim(2)}));
  return first;
}

// Of a product's partial sums [slices, rows, H] that go to add_rms_norm, over the ranks of `group` if there is one.
inline DType partial_type(const Step& step, Comm* group, const LinearWeight& weight, DType act, int64_t slices,
                          int64_t rows) {
  if (!group) return step.ops.partial_type(weight, act, rows, SumOver::kRank);
  if (!group->adds_onto(slices * rows * weight.weight.dim(0))) return DType::kF32;
  return step.ops.partial_type(weight, act, rows, SumOver::kRanks);
}

// Partial sums [S, T, H] f32 or of partial_type that are still to be added over the ranks of `group`; null: they are
// complete.
struct GroupSums {
  Tensor partials;
  Comm* group = nullptr;
};

// hidden += their sum, out = its norm (Ops::add_rms_norm). Of few rows every rank adds all by itself; many are added
// in parts where their rows are kept, and normed behind, with the same bits.
inline void add_rms_norm(const Step& step, const GroupSums& sums, const NormBehind& behind) {
  const auto& [hidden, weight, eps, out] = behind;
  if (sums.group) {
    if (sums.group->adds_onto(sums.partials.elements())) {
      sums.group->add_onto(sums.partials, hidden);
      return weight ? step.ops.rms_norm(hidden, weight, eps, out) : void();
    }
    if (const PeerPartials* shown = sums.group->show_partials(sums.partials)) {
      return step.ops.add_rms_norm_over(*shown, hidden, weight, eps, out);
    }
  }
  step.ops.add_rms_norm(sum_over(sums.group, sums.partials), hidden, weight, eps, out);
}

}  // namespace hylas
