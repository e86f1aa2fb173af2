#include "ops/fp8_plan.h"

#include <algorithm>

#include "ops/workspace_bytes.h"

namespace hylas {
namespace {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t aligned(int64_t bytes, int64_t unit) { return ceil_div(bytes, unit) * unit; }

// Rounds of all blocks times the work of one tile.
int64_t cost(const Fp8Tile& tile, int64_t rows, int64_t outputs) {
  const int64_t rounds = ceil_div(ceil_div(rows, tile.rows) * ceil_div(outputs, tile.outputs), tile.blocks);
  return rounds * fp8_tile_work(tile.rows, tile.outputs);
}

size_t elements_bytes(int64_t count, size_t each) { return workspace_piece(static_cast<size_t>(count) * each); }
size_t bf16_bytes(int64_t rows, int64_t columns) { return elements_bytes(rows * columns, 2); }

// Rows, gate and up, silu, down: a part each.
size_t shared_bytes(int64_t tokens, const Fp8Experts& e) {
  return fp8_rows_bytes(tokens, e.hidden) + bf16_bytes(tokens, 2 * e.shared_width) +
         fp8_rows_bytes(tokens, e.shared_width) + bf16_bytes(tokens, e.hidden);
}

}  // namespace

int64_t fp8_shared_bytes(const Fp8Tile& tile, int64_t inputs) {
  constexpr int64_t kOutBytes = 2, kScaleBytes = 4, kBarrierBytes = 8;
  const int64_t out = aligned(tile.rows * tile.outputs * kOutBytes, 1024);
  const int64_t stage = (tile.rows + tile.outputs) * kFp8Depth + aligned(tile.rows * kScaleBytes, 128);
  const int64_t scales = aligned(ceil_div(inputs, kFp8Depth) * kScaleBytes, kBarrierBytes);
  return out + tile.stages * (stage + 2 * kBarrierBytes) + scales;
}

Fp8Tile fp8_dense_tile(int64_t rows, int64_t outputs, Fp8Room room) {
  if (room.beside) return {128, 128, 5, 1, room.blocks < kFp8BlocksBeside ? kFp8BlocksBesideMany : kFp8BlocksBeside};
  Fp8Tile best;
  for (const Fp8Tile& tile : kFp8DenseTiles) {
    if (tile.blocks != room.blocks) continue;
    // Two blocks of a cluster take neighbouring tiles of rows: worth it only where there are many.
    if (tile.cluster > 1 && ceil_div(rows, tile.rows) < 8) continue;
    if (best.rows == 0 || cost(tile, rows, outputs) <= cost(best, rows, outputs)) best = tile;
  }
  return best;
}

Fp8Tile fp8_grouped_tile(int64_t rows, int64_t experts, int32_t blocks) {
  const bool tall = rows > 64 * std::max<int64_t>(experts, 1);
  return {tall ? 128 : 64, 128, tall ? 5 : 8, 1, blocks};
}

int64_t expected_pairs(int64_t tokens, int64_t choices, int64_t experts, int64_t experts_total) {
  const bool elsewhere = choices > 1 && experts_total > experts;
  return elsewhere ? tokens * choices * experts / experts_total : tokens * choices;
}

int64_t fp8_grouped_rows(int64_t pairs, int64_t experts, int64_t tile_rows) {
  // Every expert with rows wastes at most a tile but one row.
  const int64_t with_rows = std::min(pairs, experts);
  return aligned(pairs + with_rows * (tile_rows - 1), tile_rows);
}

int64_t few_down_tiles(int64_t outputs, int64_t inputs) {
  int64_t tiles = 1;
  while (tiles < kFewPieces && inputs / kFp8Depth % (kFewPieces / tiles) != 0 &&
         outputs % (2 * tiles * kFewPieceOutputs) == 0) {
    tiles *= 2;
  }
  return tiles;
}

int64_t fp8_scale_stride(int64_t rows) { return aligned(rows, 4); }

size_t fp8_rows_bytes(int64_t rows, int64_t inputs) {
  return elements_bytes(rows * inputs, 1) + elements_bytes(inputs / kFp8Depth * fp8_scale_stride(rows), sizeof(float));
}

size_t fp8_experts_piece(int64_t rows, const Fp8Experts& e) {
  return std::max(fp8_rows_bytes(rows, e.hidden) + bf16_bytes(rows, 2 * e.width), bf16_bytes(rows, e.hidden));
}

size_t fp8_experts_bytes(int64_t tokens, const Fp8Experts& e) {
  const int64_t pairs = tokens * e.choices;  // all of them may be here
  const Fp8Tile tile = fp8_grouped_tile(expected_pairs(tokens, e.choices, e.experts, e.experts_total), e.experts);
  const int64_t rows = fp8_grouped_rows(pairs, e.experts, tile.rows);
  // Whose rows, of which tokens; where pairs lie; where experts begin.
  const size_t lists = elements_bytes(rows + 1, sizeof(int32_t)) + elements_bytes(rows, sizeof(int32_t)) +
                       elements_bytes(pairs, sizeof(int32_t)) + elements_bytes(e.experts, sizeof(int32_t));
  return lists + fp8_experts_piece(rows, e) + fp8_rows_bytes(rows, e.width) +
         (e.shared_width > 0 ? shared_bytes(tokens, e) : 0);
}

int64_t fp8_experts_tokens(int64_t tokens, const Fp8Experts& experts, size_t bytes) {
  for (int64_t parts = 1; parts <= tokens; ++parts) {
    const int64_t block = std::min(tokens, aligned(ceil_div(tokens, parts), 4));
    if (fp8_experts_bytes(block, experts) <= bytes) return block;
  }
  return 0;
}

}  // namespace hylas
