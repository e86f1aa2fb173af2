#include "ops/decode_plan.h"

#include <algorithm>

namespace hylas {
namespace {

constexpr int64_t kRingBytes = 200 << 10;  // leaves room for the blocks of a small kernel beside
constexpr int64_t kAlignment = 1024;       // of what is swizzled
constexpr int64_t kWarpgroupGroups = 8;

int64_t up(int64_t x, int64_t unit) { return (x + unit - 1) / unit; }

// Cycles of a multiprocessor for one stage of a tile, whose copies take longer than its products. What one can fetch
// was seen on an H200.
int64_t stage_cycles(const DecodeTile& tile) {
  constexpr int64_t kBytesPerCycle = 30;
  return (tile.groups * kDecodeGroup + tile.columns) * kDecodeStep / kBytesPerCycle;
}

}  // namespace

int64_t decode_tiles(const DecodeShape& shape, int32_t groups) {
  int64_t tiles = 0;
  for (const int64_t outputs : shape.outputs) {
    tiles += up(up(outputs, kDecodeGroup) * (shape.paired ? 2 : 1), groups);
  }
  return tiles;
}

int64_t decode_stage_bytes(const DecodeTile& tile, bool fp8) {
  const int64_t scales = fp8 ? up(tile.columns * 4, kAlignment) * kAlignment : 0;
  return (tile.groups * kDecodeGroup + tile.columns) * kDecodeStep + scales;
}

int64_t decode_shared_bytes(const DecodeTile& tile, bool fp8) {
  const int64_t stage = decode_stage_bytes(tile, fp8);
  // A warpgroup reads 64 outputs, whatever the tile has.
  const int64_t read = up(tile.groups, kWarpgroupGroups) * kWarpgroupGroups * kDecodeGroup * kDecodeStep;
  return kAlignment + tile.stages * stage + std::max<int64_t>(0, read - stage);
}

DecodeTile decode_tile(const DecodeShape& shape) {
  DecodeTile best;
  int64_t best_cycles = 0;
  int32_t columns = 16;
  while (columns < shape.rows) columns *= 2;
  for (int32_t groups = kDecodeGroupsMax; groups >= 2; groups -= 2) {
    const DecodeTile tile = {groups, columns, 0, shape.multiprocessors};
    const int64_t cycles = up(decode_tiles(shape, groups) * shape.slices, shape.multiprocessors) * stage_cycles(tile);
    if (best_cycles != 0 && cycles >= best_cycles) continue;
    best = tile;
    best_cycles = cycles;
  }
  best.stages =
      static_cast<int32_t>(std::min<int64_t>(kRingBytes / decode_stage_bytes(best, shape.fp8), kDecodeStagesMax));
  return best;
}

}  // namespace hylas
