#pragma once
// What the fetching warp of row_layers.cu and the working ones agree on: which block has which part of the products, in
// which order their weights come, and where in shared memory.
#include "ops/cuda/row_math.cuh"
#include "ops/cuda/row_words.cuh"

namespace hylas::cuda {

constexpr int kRowPiece = kRowTile / 2;  // rows of FP8 over the hidden size in a piece: a tile is two
static_assert(kRowPiece * row_shape::kHidden == kPieceBytes);
// Tiles of a layer's first products: q, k, two of v, two of z; or every 128th of an attention's.
constexpr int kMixerTiles = 6;
constexpr int kProductTiles = (row_shape::kQueryRows + 2 * row_shape::kKvRows) / kRowTile;
constexpr int kAheadTiles = 4;
static_assert(kProductTiles / kGridBlocks == kAheadTiles && kProductTiles <= (kAheadTiles + 1) * kGridBlocks);
static_assert(row_shape::kHidden / kRowTile == kGridBlocks);  // a tile a block of the mixer's last product and of down
constexpr int kRouterTiles = row_shape::kExperts / 8, kWidthTiles = row_shape::kWidth / 8;
constexpr int kMiddleTiles = kRouterTiles + 1 + kWidthTiles;  // router, the shared expert's gate, its products
constexpr int kExpertTiles = row_shape::kChoices * kWidthTiles / kGridBlocks;  // a block's
static_assert(kMiddleTiles <= kGridBlocks && kExpertTiles == 4 && kGridBlocks % kWidthTiles == 0);
constexpr int kUpScales = row_shape::kWidth / 128 * kRowBlocks, kDownBlocks = row_shape::kWidth / 128;
constexpr int kDownScales = row_shape::kHidden / 128 * kDownBlocks;
constexpr int kDownBytes = kRowTile * row_shape::kWidth;  // of an expert
constexpr int kDownPieces = row_shape::kChoices / 2 + 1;  // two experts each, and the shared one
static_assert(2 * kDownBytes == kPieceBytes && 2 * kDownBlocks == kRowWarps);

constexpr int kHeadBlocks = 8;  // of a key head
constexpr int kRowGroups = 4;   // of keys: key i * 4 + g belongs to group g
constexpr int kRowHeld = row_shape::kDim / kRowGroups;
constexpr int kRowKeys = kRowHeld + 8;  // a group's row: who goes through neighbouring keys meets no bank twice
constexpr int kRowColumns = 32;         // of a state, of a block
static_assert(row_shape::kValueHeads == 2 * row_shape::kKeyHeads && row_shape::kDim == 4 * kRowColumns &&
              kGridBlocks == row_shape::kKeyHeads * kHeadBlocks);

// Which part of a Gated DeltaNet the block has.
struct RowPlace {
  int key_head, rank, head, column;  // `column`: of all value heads' columns, the first
  __device__ __forceinline__ RowPlace()
      : key_head(static_cast<int>(blockIdx.x) / kHeadBlocks),
        rank(static_cast<int>(blockIdx.x) % kHeadBlocks),
        head(2 * key_head + rank / 4),
        column(head * row_shape::kDim + rank % 4 * kRowColumns) {}
};
struct RowHead {
  // Before the norm; a group's are written and read by its warp.
  alignas(16) float query[kRowGroups][kRowKeys];
  alignas(16) float key[kRowGroups][kRowKeys];
  float sums[2][kRenewWarps][kRowColumns];
  float gate[kRowColumns];
};

__device__ __forceinline__ float row_element(const RowVector& v, int at) {
  return v.dtype == DType::kF32 ? static_cast<const float*>(v.data)[at] : to_f32(static_cast<const Bf16*>(v.data)[at]);
}

// Rows of a matrix, from `row` on.
struct RowRows {
  RowMatrix of;
  int row;
};
// The block's tile `i` of a mixer's first products.
__device__ __forceinline__ RowRows row_mixer_tile(const RowLayerArgs& layer, const RowPlace& place, int i) {
  if (i < 2) return {layer.qkv, (i * row_shape::kKeyHeads + place.key_head) * row_shape::kDim + place.rank * kRowTile};
  const int row = place.column + i % 2 * kRowTile;
  return i < 4 ? RowRows{layer.qkv, 2 * row_shape::kKeyHeads * row_shape::kDim + row} : RowRows{layer.z, row};
}
// And of an attention's: which matrix, and the row in it.
struct RowProductPlace {
  int matrix, row;
  __device__ __forceinline__ explicit RowProductPlace(int i) {
    const int at = (static_cast<int>(blockIdx.x) + i * kGridBlocks) * kRowTile;
    matrix = at < row_shape::kQueryRows ? 0 : at < row_shape::kQueryRows + row_shape::kKvRows ? 1 : 2;
    row = matrix == 0 ? at : (at - row_shape::kQueryRows) % row_shape::kKvRows;
  }
};
__device__ __forceinline__ int row_product_tiles() {
  return kAheadTiles + (static_cast<int>(blockIdx.x) < kProductTiles - kAheadTiles * kGridBlocks);
}

// Pieces of the mixer's last product and the next layer's first ones, fetched while it is not known yet which experts
// this one wants; and all others in turn.
using RowAhead = RowSlots<2 * kAheadTiles>;
using RowInTurn = RowSlots<5>;

struct RowShared {
  RowAhead ahead;
  RowInTurn slots;
  RowInput input;
  RowSums sums;
  RowHead head;
  float small[8 * 8];
  alignas(16) unsigned char exchange[kRowWarps][5][128];
  float weight[row_shape::kChoices];
};

}  // namespace hylas::cuda
