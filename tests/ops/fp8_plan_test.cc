// The choice of tiles for FP8 products: a pure function, right for every shape.
#include "ops/fp8_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <span>

namespace hylas {
namespace {

using ::testing::Contains;

TEST(Fp8Plan, EveryTileFitsTheMultiprocessorUpToLongRows) {
  for (const auto& tiles : {std::span<const Fp8Tile>(kFp8DenseTiles), std::span<const Fp8Tile>(kFp8GroupedTiles)}) {
    for (const Fp8Tile& tile : tiles) {
      EXPECT_LE(fp8_shared_bytes(tile, 32768), kFp8SharedBytesMax - 1024) << tile.rows << " x " << tile.outputs;
      EXPECT_GE(tile.stages, 4);
      EXPECT_EQ(tile.blocks % tile.cluster, 0);
    }
  }
}

// Counted by hand: out 128 x 128 bf16, five stages of two 128 x 128 tiles with 128 scales and two barriers, 16 scales.
TEST(Fp8Plan, CountsSharedMemoryAsTheKernelLaysItOut) {
  EXPECT_EQ(fp8_shared_bytes({128, 128, 5}, 2048), 32768 + 5 * (16384 + 16384 + 512 + 16) + 64);
  EXPECT_EQ(fp8_shared_bytes({64, 64, 8}, 128), 8192 + 8 * (8192 + 8192 + 256 + 16) + 8);
}

TEST(Fp8Plan, SmallProductsTakeSmallTilesAndLargeOnesTheLargestWithAPartner) {
  EXPECT_EQ(fp8_dense_tile(1, 512), (Fp8Tile{64, 64, 8}));
  EXPECT_EQ(fp8_dense_tile(64, 2048).rows, 64);
  EXPECT_EQ(fp8_dense_tile(16384, 12288), (Fp8Tile{128, 128, 5, 2}));
  EXPECT_EQ(fp8_dense_tile(512, 12288).cluster, 1);
}

// The kernels are launched with what the table holds, and no block of a pair is idle for want of rows.
TEST(Fp8Plan, EveryShapeGetsATileOfTheTable) {
  for (int64_t rows : {1, 63, 64, 65, 128, 129, 500, 1000, 1024, 3500, 14000, 16384, 131072}) {
    for (int64_t outputs : {8, 64, 512, 1024, 2048, 9216, 12288}) {
      const Fp8Tile chosen = fp8_dense_tile(rows, outputs), small = fp8_dense_tile(rows, outputs, {78});
      EXPECT_THAT(kFp8DenseTiles, Contains(chosen));
      EXPECT_THAT(kFp8DenseTiles, Contains(small));
      EXPECT_EQ(chosen.blocks, 132);
      EXPECT_EQ(small.blocks, 78);
      EXPECT_EQ(fp8_dense_tile(rows, outputs, {131, true}), (Fp8Tile{128, 128, 5, 1, 100}));
      EXPECT_EQ(fp8_dense_tile(rows, outputs, {99, true}), (Fp8Tile{128, 128, 5, 1, 68}));
      if (chosen.cluster > 1) {
        EXPECT_GE(rows, 7 * chosen.rows + 1) << outputs;
      }
      // Whoever fills the blocks with large tiles computes the most per byte.
      if (rows * outputs >= 8 * 128 * 128 * kFp8Blocks && outputs % 128 == 0) {
        EXPECT_EQ(chosen.rows, 128) << rows << " x " << outputs;
      }
    }
  }
}

TEST(Fp8Plan, BlocksAreAsManyAsTheMultiprocessorsOrFewer) {
  EXPECT_EQ(fp8_blocks(132), 132);
  EXPECT_EQ(fp8_blocks(114), 78);
  EXPECT_EQ(fp8_blocks(78), 78);
}

TEST(Fp8Plan, ExpertsTakeTallTilesWhereTheyHaveTheRows) {
  for (const int32_t blocks : {132, 78}) {
    for (const int64_t pairs : {16 * 256, 112000}) {
      EXPECT_THAT(kFp8GroupedTiles, Contains(fp8_grouped_tile(pairs, 256, blocks)));
    }
  }
  EXPECT_EQ(fp8_grouped_tile(16 * 256, 256).rows, 64);
  EXPECT_EQ(fp8_grouped_tile(64 * 256, 256).rows, 64);
  EXPECT_EQ(fp8_grouped_tile(112000, 256).rows, 128);
  EXPECT_EQ(fp8_grouped_tile(0, 0).rows, 64);
}

// The choices of all ranks' tokens fall on all ranks' experts. A row of a single choice was sent to the rank that has
// it.
TEST(Fp8Plan, ARankExpectsItsShareOfTheChoices) {
  EXPECT_EQ(expected_pairs(100, 10, 64, 512), 125);
  EXPECT_EQ(expected_pairs(100, 10, 512, 512), 1000);
  EXPECT_EQ(expected_pairs(100, 10, 512, 0), 1000);
  EXPECT_EQ(expected_pairs(100, 1, 64, 512), 100);
  EXPECT_EQ(expected_pairs(0, 10, 64, 512), 0);
}

// However the pairs fall on the experts, each expert's rows rounded up to tiles fit.
TEST(Fp8Plan, PaddedRowsHoldEveryDistribution) {
  for (int64_t tile : {64, 128}) {
    EXPECT_EQ(fp8_grouped_rows(0, 8, tile), 0);
    for (int64_t experts : {1, 3, 8}) {
      for (int64_t pairs : {1, 2, 7, 64, 65, 200, 1000}) {
        const int64_t room = fp8_grouped_rows(pairs, experts, tile);
        EXPECT_EQ(room % tile, 0);
        // The worst: as many experts as can be with one row beyond whole tiles.
        int64_t left = pairs, used = 0;
        for (int64_t e = 0; e < experts && left > 0; ++e) {
          const int64_t mine = e + 1 == experts ? left : 1;
          used += (mine + tile - 1) / tile * tile;
          left -= mine;
        }
        EXPECT_LE(used, room) << pairs << " pairs, " << experts << " experts";
      }
    }
  }
}

// A stage holds 64 outputs of 512 inputs, or more outputs where a rank's experts have fewer inputs.
TEST(Fp8Plan, StagesOfFewRowsAreFull) {
  for (const int64_t width : {512, 1024, 2048}) EXPECT_EQ(few_down_tiles(4096, width), 1) << width;
  for (const int64_t width : {256, 768, 1280}) EXPECT_EQ(few_down_tiles(4096, width), 2) << width;
  for (const int64_t width : {128, 384, 640}) EXPECT_EQ(few_down_tiles(4096, width), 4) << width;
  EXPECT_EQ(few_down_tiles(384, 128), 2) << "outputs are whole items";
  EXPECT_EQ(few_down_tiles(128, 128), 2);
}

constexpr Fp8Experts k397B = {.choices = 10, .experts = 512, .hidden = 4096, .width = 1024, .shared_width = 1024};

// Counted by hand: 10 tokens x 2 of 3 experts are 20 + 3 x 63 rows, so 4 tiles of 64.
TEST(Fp8Plan, ExpertsTakeWhatTheirStepsLieIn) {
  const Fp8Experts alone = {.choices = 2, .experts = 3, .hidden = 256, .width = 128};
  const size_t lists = 1280 + 1024 + 256 + 256, rows = 256 * 256 + 2 * 256 * 4, gate_up = 256 * 256 * 2;
  EXPECT_EQ(fp8_experts_piece(256, alone), rows + gate_up) << "more than the down products, 256 x 256 x 2";
  EXPECT_EQ(fp8_experts_bytes(10, alone), lists + rows + gate_up + 256 * 128 + 256 * 4);
  Fp8Experts narrow = alone;
  narrow.hidden = 1024;
  EXPECT_EQ(fp8_experts_piece(256, narrow), size_t{256 * 1024 * 2}) << "the down products where the others were";
  // Beside them 10 rows of x with scales in groups of 12, gate and up, halves, down.
  Fp8Experts beside = alone;
  beside.shared_width = 128;
  const size_t shared = 2560 + 256 + 5120 + 1280 + 256 + 5120;
  EXPECT_EQ(fp8_experts_bytes(10, beside) - fp8_experts_bytes(10, alone), shared);
  // 228864 rows of 9384 bytes, and 17568 of each token for the shared expert.
  EXPECT_NEAR(static_cast<double>(fp8_experts_bytes(16384, k397B)), 228864 * 9384. + 16384 * 17568., 1e6);
}

// 64 of 512 experts have 40 rows of 2048 tokens each, so short tiles; and still there is room for all pairs.
TEST(Fp8Plan, ARankOfExpertsHasRoomForAllPairsInTheTilesOfThoseItExpects) {
  Fp8Experts part = k397B;
  part.experts = 64, part.shared_width = 0, part.experts_total = 512;
  const int64_t rows = fp8_grouped_rows(20480, 64, 64);
  EXPECT_EQ(rows, 20480 + 64 * 63);
  EXPECT_NEAR(static_cast<double>(fp8_experts_bytes(2048, part)), static_cast<double>(rows) * 9384, 2e5);
  Fp8Experts all_here = part;
  all_here.experts_total = 0;
  EXPECT_GT(fp8_experts_bytes(2048, all_here), fp8_experts_bytes(2048, part)) << "320 rows of an expert, tall tiles";
}

TEST(Fp8Plan, BlocksOfExpertsAreAsFewAndAsEqualAsTheWorkspaceAllows) {
  const size_t all = fp8_experts_bytes(16384, k397B);
  EXPECT_EQ(fp8_experts_tokens(16384, k397B, all), 16384);
  EXPECT_EQ(fp8_experts_tokens(16384, k397B, all - 1), 8192);
  EXPECT_EQ(fp8_experts_tokens(16384, k397B, size_t{1} << 30), 4096);
  EXPECT_EQ(fp8_experts_tokens(0, k397B, all), 0);
  EXPECT_EQ(fp8_experts_tokens(16384, k397B, 1000), 0);
  for (const size_t bytes : {size_t{32} << 20, size_t{300} << 20, size_t{1} << 30}) {
    for (const int64_t tokens : {1, 5, 127, 700, 3501, 16640}) {
      const int64_t block = fp8_experts_tokens(tokens, k397B, bytes);
      ASSERT_TRUE(block > 0 && block <= tokens) << block << " of " << tokens;
      EXPECT_LE(fp8_experts_bytes(block, k397B), bytes);
      EXPECT_TRUE(block == tokens || block % 4 == 0) << block << " of " << tokens;
    }
  }
}

}  // namespace
}  // namespace hylas
