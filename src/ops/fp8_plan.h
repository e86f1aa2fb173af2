#pragma once
// Which tile an FP8 product on the tensor cores takes, and what experts take of the workspace: pure functions of
// shapes. The tiles are those that ops/cuda/deep_gemm_*.cu instantiate.
#include <cstddef>
#include <cstdint>

namespace hylas {

// The kernels have a block for each multiprocessor of an H100 or H200, or of an H20 and what lies between: they are
// compiled for their number of blocks, and a second round of a few would take as long as the first.
constexpr int32_t kFp8Blocks = 132, kFp8BlocksSmall = 78;
constexpr int32_t fp8_blocks(int32_t multiprocessors) {
  return multiprocessors >= kFp8Blocks ? kFp8Blocks : kFp8BlocksSmall;
}
// Beside a delta rule, which holds a multiprocessor for each row and head, with so many that all run at once: beside up
// to 32, up to 64. No block has a partner there: two that have to lie together might not find room.
constexpr int32_t kFp8BlocksBeside = 100, kFp8BlocksBesideMany = 68;

// What a product finds: fp8_blocks of the GPU, or `beside` a delta rule the multiprocessors that it leaves.
struct Fp8Room {
  int32_t blocks = kFp8Blocks;
  bool beside = false;
};

struct Fp8Tile {
  int32_t rows = 0;     // of x and out
  int32_t outputs = 0;  // of the weight and out
  int32_t stages = 0;   // of the ring of copies
  int32_t cluster = 1;  // blocks that share what they read of the weight
  int32_t blocks = kFp8Blocks;
  bool operator==(const Fp8Tile&) const = default;
};

// Inputs of one step, which is one scale block.
constexpr int64_t kFp8Depth = 128;
// What one block of a multiprocessor may use.
constexpr int64_t kFp8SharedBytesMax = 232448;

// All instances, the dense ones and those with rows grouped by expert.
constexpr Fp8Tile kFp8DenseTiles[] = {{64, 64, 8},
                                      {64, 128, 8},
                                      {128, 128, 5},
                                      {128, 128, 5, 2},
                                      {64, 64, 8, 1, kFp8BlocksSmall},
                                      {64, 128, 8, 1, kFp8BlocksSmall},
                                      {128, 128, 5, 1, kFp8BlocksSmall},
                                      {128, 128, 5, 2, kFp8BlocksSmall},
                                      {128, 128, 5, 1, kFp8BlocksBeside},
                                      {128, 128, 5, 1, kFp8BlocksBesideMany}};
constexpr Fp8Tile kFp8GroupedTiles[] = {
    {64, 128, 8}, {128, 128, 5}, {64, 128, 8, 1, kFp8BlocksSmall}, {128, 128, 5, 1, kFp8BlocksSmall}};

// Bytes of shared memory that a block needs for `inputs`: the tile of out, the stages, a row of scales, two barriers
// for each stage.
int64_t fp8_shared_bytes(const Fp8Tile& tile, int64_t inputs);

// A tile's time beside one of 128 x 128, in percent: one of 64 rows keeps the tensor cores half as busy, and one of 64
// outputs a little less so.
constexpr int64_t fp8_tile_work(int64_t rows, int64_t outputs) {
  return (rows == 128 ? 10 : 6) * (outputs == 128 ? 10 : 6);
}

// The fewest rounds of all blocks, weighed by a tile's size; of equal ones the largest tile. Beside a delta rule: the
// tile of the most blocks that are not more than it leaves. An output's bits are the same with all of them.
Fp8Tile fp8_dense_tile(int64_t rows, int64_t outputs, Fp8Room room = {});
// Tall tiles only where an expert has the rows for them: its rows are padded to whole tiles. `rows`: to be expected of
// these experts.
Fp8Tile fp8_grouped_tile(int64_t rows, int64_t experts, int32_t blocks = kFp8Blocks);

// Of the choices of `tokens`, those to expect among `experts` of `experts_total` (0: these are all). A row with one
// choice was sent here for it.
int64_t expected_pairs(int64_t tokens, int64_t choices, int64_t experts, int64_t experts_total);

// Rows of a buffer that holds `pairs` rows of `experts` experts, each expert's from a multiple of `tile_rows` on.
int64_t fp8_grouped_rows(int64_t pairs, int64_t experts, int64_t tile_rows);

// Experts with few rows each (ops/cuda/gemm_fp8_few.cu): a stage of the ring of weights holds so many pieces of 64
// outputs by kFp8Depth inputs.
constexpr int64_t kFewPieces = 4, kFewPieceOutputs = 64;
// Pieces of a stage of the down product that are of other outputs than the first, and the first; the rest are of other
// inputs: as many as leave least of its stages empty. A power of two.
int64_t few_down_tiles(int64_t outputs, int64_t inputs);

// Rows in e4m3 with their scales: elements from one group's scales to the next one's, and bytes of the workspace.
int64_t fp8_scale_stride(int64_t rows);
size_t fp8_rows_bytes(int64_t rows, int64_t inputs);

// A rank's experts in whole tiles (ops/cuda/moe_fp8.cc).
struct Fp8Experts {
  int64_t choices = 0;  // of a token
  int64_t experts = 0;  // of the rank
  int64_t hidden = 0, width = 0;
  int64_t shared_width = 0;   // of the shared expert; 0: it is not beside them
  int64_t experts_total = 0;  // of all ranks; 0: no more than here
};
// Where `rows` quantized rows and their gate and up products lie, and the down products once these are done with.
size_t fp8_experts_piece(int64_t rows, const Fp8Experts& experts);
// What a block of `tokens` takes of the workspace, whatever they choose.
size_t fp8_experts_bytes(int64_t tokens, const Fp8Experts& experts);
// `tokens` in as few blocks of about equal size as fit `bytes` each: the first one's tokens, a multiple of 4 if these
// are not all. 0: not even one fits.
int64_t fp8_experts_tokens(int64_t tokens, const Fp8Experts& experts, size_t bytes);

}  // namespace hylas
