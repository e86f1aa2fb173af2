#pragma once
// LayoutPlan: what each stage of a layout holds, what fits beside it, and what its links carry. From shapes alone: what
// `hylas plan` prints and the simulator starts from. Pure functions.
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "engine/configuration.h"
#include "model/partition.h"

namespace hylas {

// Of what the weights leave of a GPU, unless --mem-fraction-static says otherwise; the rest is for activations.
constexpr double kGpuMemoryFraction = 0.9;

// Bytes that one rank sends for each token of its dp group, on average over the ranks of its stage.
struct LinkBytes {
  double stage = 0;       // to the next stage: [tokens, H]
  double all_reduce = 0;  // sums over the ranks of a stage: a ring in the type of the activations
  double gather = 0;      // the tokens of all dp groups, where experts or a dense feed-forward need them
  double dispatch = 0;    // rows to the ranks of their experts
  double combine = 0;     // their results back, f32
};

struct StagePlan {
  int32_t layer_begin = 0, layer_end = 0;
  int32_t full_layers = 0;  // with full attention
  double cost_share = 0;    // of the whole model's, embedding and head included
  // Of the rank that holds most.
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t state_bytes_per_sequence = 0;
  int64_t cache_bytes = 0;  // left for KV and states
  LinkBytes link;           // without the last stage's way on
};

struct LayoutPlan {
  std::vector<StagePlan> stages;
  int64_t weight_bytes_total = 0;  // of all ranks
  int32_t context_length = 0;

  // Sequences of `tokens` tokens that all dp groups hold together: the tightest stage decides. With --max-total-tokens
  // the KV is no more than that.
  int64_t batch(int64_t tokens) const;

  int32_t groups = 1;
  int32_t page_size = 64;
  int64_t kv_tokens_max = 0;  // of a group; 0: what fits
};

// Memory of one rank: all of it, and what its kernels take first (gpu_kernels.h).
struct RankMemory {
  int64_t bytes = 0;
  int64_t workspace_bytes = 0;
};

// Of what weights and workspace leave, the configuration's memory fraction is for KV and states. `costs`: of the parts,
// for the shares of the stages. kUnsupported with the numbers when the weights do not fit.
Result<LayoutPlan> plan_layout(const EngineConfiguration& chosen, const RankMemory& memory,
                               const PartitionCosts& costs);

}  // namespace hylas
