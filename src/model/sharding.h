#pragma once
// Sharding: which part of every tensor belongs to which rank. The one place that decides it.
#include <cstdint>

#include "base/result.h"
#include "comm/topology.h"
#include "model/config.h"
#include "weights/source.h"

namespace hylas {

// A rank's place in the layout; the default is a lone rank.
struct Shard {
  ParallelSizes sizes;
  RankPlace place;
};

// kUnsupported with the numbers: heads, widths, experts or vocabulary that the sizes do not divide, or FP8 blocks of
// 128 that they would cut.
Status check_shapes(const ModelConfig& config, const ParallelSizes& sizes);

// Part `index` of `parts` equal ones of `size`.
constexpr Range split(int64_t size, int32_t parts, int32_t index) { return {size / parts * index, size / parts}; }

// Heads of full attention. KV heads are replicated where there are fewer of them than ranks.
Range query_heads(const ModelConfig& config, const Shard& shard);
Range kv_heads(const ModelConfig& config, const Shard& shard);
inline bool kv_replicated(const ModelConfig& config, const Shard& shard) {
  return shard.sizes.attn_tp() > config.kv_heads;
}
// Heads of a linear layer: a value head goes with its key head.
Range linear_key_heads(const ModelConfig& config, const Shard& shard);
Range linear_value_heads(const ModelConfig& config, const Shard& shard);
// Rows of the embedding and the head.
Range vocab_rows(const ModelConfig& config, const Shard& shard);
// Inner columns of the dense feed-forward, of each expert and of the shared one; experts.
Range dense_widths(const ModelConfig& config, const Shard& shard);
Range expert_widths(const ModelConfig& config, const Shard& shard);
Range shared_widths(const ModelConfig& config, const Shard& shard);
Range experts_held(const ModelConfig& config, const Shard& shard);

// Partial sums of a row-parallel product that a rank of a group of `ranks` keeps (ops.h). Beyond four ranks each has
// one, and the order of the sum is no longer the single rank's.
constexpr int64_t slices_of(int32_t ranks, int32_t total = kSlicesTotal) { return ranks >= total ? 1 : total / ranks; }

}  // namespace hylas
