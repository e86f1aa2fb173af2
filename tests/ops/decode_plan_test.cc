// The choice of tiles for a decode step's products: a pure function, right for every shape.
#include "ops/decode_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace hylas {
namespace {

constexpr int64_t kSharedBytesMax = 232448 - 1024;  // of a block, less what the kernel has besides

DecodeTile tile_of(bool fp8, int64_t rows, const std::vector<int64_t>& outputs, int64_t slices = 1,
                   bool paired = false) {
  return decode_tile({.fp8 = fp8, .rows = rows, .slices = slices, .paired = paired, .outputs = outputs});
}

// Counted by hand: 192 outputs and 64 rows of 128 bytes; 16 and 32, their scales in a whole KiB, and the 48 outputs
// that a warpgroup reads behind the last stage's 16, of which 32 are rows and scales are there too.
TEST(DecodePlan, CountsSharedMemoryAsTheKernelLaysItOut) {
  EXPECT_EQ(decode_stage_bytes({24, 64, 6}, false), (192 + 64) * 128);
  EXPECT_EQ(decode_shared_bytes({24, 64, 6}, false), 1024 + 6 * (192 + 64) * 128);
  EXPECT_EQ(decode_stage_bytes({2, 32, 4}, true), (16 + 32) * 128 + 1024);
  EXPECT_EQ(decode_shared_bytes({2, 32, 4}, true), 1024 + 4 * 7168 + (64 * 128 - 7168));
}

// Every shape gets a tile that there is a kernel for, with a ring that hides a copy's latency and fits.
TEST(DecodePlan, EveryShapeGetsATileThatFits) {
  for (const bool fp8 : {false, true}) {
    for (int64_t rows = 1; rows <= (fp8 ? kDecodeFp8RowsMax : kDecodeRowsMax); ++rows) {
      for (int64_t outputs : {8, 64, 1000, 2048, 12288, 34816, 248320}) {
        for (const bool paired : {false, true}) {
          for (int64_t slices : {1, 2, 4}) {
            const DecodeTile tile = tile_of(fp8, rows, {outputs, 32}, slices, paired);
            ASSERT_TRUE(tile.columns >= rows && tile.columns < 2 * std::max<int64_t>(rows, 16)) << rows;
            ASSERT_TRUE(tile.groups % 2 == 0 && tile.groups >= 2 && tile.groups <= kDecodeGroupsMax) << outputs;
            ASSERT_TRUE(tile.stages >= 4 && tile.stages <= kDecodeStagesMax) << outputs;
            ASSERT_LE(decode_shared_bytes(tile, fp8), kSharedBytesMax) << outputs;
          }
        }
      }
    }
  }
}

// 9B's matrices: one round of nearly all multiprocessors each.
TEST(DecodePlan, LargeMatricesTakeOneRound) {
  const auto tiles = [](const std::vector<int64_t>& outputs, int64_t slices, bool paired) {
    const DecodeShape shape = {.rows = 64, .slices = slices, .paired = paired, .outputs = outputs};
    return decode_tiles(shape, decode_tile(shape).groups) * slices;
  };
  for (const int64_t count : {tiles({8192, 4096}, 1, false), tiles({8192, 1024, 1024}, 1, false),
                              tiles({4096}, 4, false), tiles({12288}, 1, true)}) {
    EXPECT_TRUE(count > 120 && count <= 132) << count;
  }
}

TEST(DecodePlan, CountsTilesOfEachMatrix) {
  const std::vector<int64_t> outputs = {8192, 4096, 32};
  EXPECT_EQ(decode_tiles({.outputs = outputs}, 12), 86 + 43 + 1);
  EXPECT_EQ(decode_tiles({.paired = true, .outputs = outputs}, 12), 171 + 86 + 1);
}

TEST(DecodePlan, AGpuOfFewerMultiprocessorsHasABlockForEach) {
  const int64_t outputs[] = {12288};
  const DecodeShape shape = {.rows = 64, .outputs = outputs, .multiprocessors = 78};
  const DecodeTile tile = decode_tile(shape);
  EXPECT_EQ(tile.blocks, 78);
  const int64_t tiles = decode_tiles(shape, tile.groups);
  EXPECT_TRUE(tiles > 70 && tiles <= 78) << tiles << ": not one round of nearly all";
}

}  // namespace
}  // namespace hylas
