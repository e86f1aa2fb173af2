#pragma once
// PoolBlocks: where everything lies in the one buffer of a rank's StatePools. A pure function of the layout and the
// counts, so that another instance can work out addresses in it.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/state_layout.h"

namespace hylas {

// All pages of one (layer, segment) of a per-token kind, or all slots of one layer of a per-sequence kind.
struct PoolBlock {
  size_t offset = 0;  // of page or slot 0, from the start of the buffer: a multiple of 64
  size_t stride = 0;  // bytes of one page or slot
};

struct PoolBlocks {
  std::vector<std::vector<PoolBlock>> kinds;  // [kind][see block_index]
  size_t bytes = 0;                           // of the buffer
};

PoolBlocks pool_blocks(const StateLayout& layout, int64_t pages, int32_t page_size, int64_t slots);

// Place in PoolBlocks::kinds[kind] of the kind's layer number `layer_index` (its place in StateKind::layers). The
// segments of a slot lie side by side in one block.
inline size_t block_index(const StateKind& kind, size_t layer_index, size_t segment) {
  return kind.scope == StateScope::kPerToken ? layer_index * kind.segments.size() + segment : layer_index;
}

}  // namespace hylas
