#pragma once
// What every module of the model needs for one step, and nothing else.
#include "cache/state_pools.h"
#include "model/config.h"
#include "ops/ops.h"
#include "tensor/arena.h"

namespace hylas {

struct Step {
  Ops& ops;
  const Batch& batch;
  StatePools& pools;
  Arena& arena;
  Tensor rope_table;  // [tokens, rotary_dim] f32
};

// Partial sums that a row-parallel product of a rank is kept in (ops.h).
constexpr int kPartialSlices = kSlicesTotal;

}  // namespace hylas
