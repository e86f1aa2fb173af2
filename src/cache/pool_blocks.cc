#include "cache/pool_blocks.h"

namespace hylas {
namespace {

constexpr size_t kBlockAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment; }

}  // namespace

PoolBlocks pool_blocks(const StateLayout& layout, int64_t pages, int32_t page_size, int64_t slots) {
  PoolBlocks placed;
  for (const StateKind& kind : layout.kinds) {
    std::vector<PoolBlock>& blocks = placed.kinds.emplace_back();
    const auto place = [&](int64_t elements, int64_t count) {
      const size_t stride = static_cast<size_t>(elements) * dtype_bytes(kind.dtype);
      blocks.push_back({placed.bytes, stride});
      placed.bytes += aligned(stride * count);
    };
    for (size_t layer = 0; layer < kind.layers.size(); ++layer) {
      if (kind.scope == StateScope::kPerSequence) {
        place(kind.layer_elements(), slots);
        continue;
      }
      for (const StateSegment& segment : kind.segments) place(segment.units * segment.unit_elements * page_size, pages);
    }
  }
  return placed;
}

}  // namespace hylas
