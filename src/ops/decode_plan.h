#pragma once
// Which tile a product of a decode step's rows takes on the GPU (ops/cuda/gemm_decode.cu): a pure function of its
// shape. An output's bits do not depend on the tile.
#include <cstdint>
#include <span>

namespace hylas {

struct DecodeTile {
  int32_t groups = 0;    // of 8 outputs of a weight, or of 8 outputs of one of two weights; even
  int32_t columns = 0;   // rows of x: 16, 32, 64 or 128
  int32_t stages = 0;    // of the ring of copies
  int32_t blocks = 132;  // of the launch, if there are so many tiles
  bool operator==(const DecodeTile&) const = default;
};

// Several matrices over the same rows in one launch.
struct DecodeShape {
  bool fp8 = false;  // weights and rows; otherwise bf16
  int64_t rows = 0;
  int64_t slices = 1;
  bool paired = false;               // each stands for two of as many outputs
  std::span<const int64_t> outputs;  // of each matrix
  int32_t multiprocessors = 132;     // of the GPU: a block for each
};

constexpr int64_t kDecodeRowsMax = 128;
constexpr int64_t kDecodeFp8RowsMax = 64;
constexpr int64_t kDecodeGroup = 8;
constexpr int32_t kDecodeGroupsMax = 24;     // three warpgroups
constexpr int32_t kDecodeFp8GroupsMin = 12;  // a stage of fewer is over before its sums are scaled
constexpr int32_t kDecodeStagesMax = 16;
constexpr int64_t kDecodeStep = 128;  // bytes of a row in a stage

// Tiles of all matrices, of one slice.
int64_t decode_tiles(const DecodeShape& shape, int32_t groups);
// Of shared memory: a stage's weights, rows and, in FP8, the rows' scales; and all that a block needs.
int64_t decode_stage_bytes(const DecodeTile& tile, bool fp8);
int64_t decode_shared_bytes(const DecodeTile& tile, bool fp8);
// So that no multiprocessor has much more to do than another.
DecodeTile decode_tile(const DecodeShape& shape);

}  // namespace hylas
