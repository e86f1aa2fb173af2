#pragma once
// From a configuration to this node's ranks with their weights, and the memory that is left for sequences.
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "cache/memory_budget.h"
#include "engine/cluster.h"
#include "engine/configuration.h"
#include "engine/engine.h"
#include "engine/rank.h"

namespace hylas {

// One memory that ranks take theirs from: the machine's, or a GPU's.
struct MemoryUse {
  int64_t free_bytes = 0;  // before the weights
  int64_t weight_bytes = 0;
  int32_t ranks = 0;

  int64_t left_bytes() const { return free_bytes > weight_bytes ? free_bytes - weight_bytes : 0; }
};

struct LoadedRanks {
  std::vector<std::unique_ptr<Rank>> ranks;  // of this node
  std::vector<MemoryUse> memories;
  std::vector<int32_t> memory_of;  // by rank: which of `memories`
};

// The GPU of each of a node's ranks: one each from --base-gpu-id on. kUnsupported when there are fewer than that. With
// options.ranks_share_gpu they take turns over those there are. `gpus`: how many this process sees.
Result<std::vector<int32_t>> choose_gpus(const EngineOptions& options, int32_t ranks, int32_t gpus);

// Before weights are read: whether those of each GPU's ranks, `weight_bytes`, fit in what is free beside a workspace of
// each. kUnsupported with the sizes where they do not.
Status check_weights_fit(std::span<const MemoryUse> memories, std::span<const int64_t> weight_bytes, int64_t gpu_bytes,
                         int64_t workspace_bytes);

// The same of weights that --load-format dummy fills the machine's memory with; those of a checkpoint are mapped.
Status check_dummy_weights_fit(const MemoryUse& memory, int64_t weight_bytes);

// Whether some share one: then a kernel that waits for another rank could keep that one from running.
bool ranks_share_gpus(const EngineOptions& options, int32_t ranks);

// Reads the weights, with a progress bar. `cluster`: null with one node. Ranks on GPUs load beside each other.
Result<LoadedRanks> load_ranks(const EngineOptions& options, const EngineConfiguration& chosen, Cluster* cluster);

// Pages and slots have the same ids on all ranks of a group, so there are as many as the tightest rank has; those that
// take from one memory share it evenly.
Result<MemoryBudget> divide_memory(const EngineConfiguration& chosen, const LoadedRanks& loaded);

// Their memory for sequences, and when all have it, the recorded steps. `on_gpus`: beside each other, since they meet
// in these.
Status allocate_ranks(std::span<const std::unique_ptr<Rank>> ranks, const MemoryBudget& budget, bool on_gpus);

}  // namespace hylas
