// What a rank loads is what the plan says, byte for byte: a rank that reads a foreign layer, head or expert fails here.
#include "model/shard_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/manifest.h"
#include "model/partition.h"
#include "support/layout_models.h"
#include "weights/dummy_source.h"

namespace hylas {
namespace {

using test::LayoutKind;
using test::LayoutModel;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

struct Loaded {
  int64_t bytes = 0;
  std::set<std::string> names;
};

Loaded load(const ModelConfig& model, const DecoderOptions& options) {
  DummySource source(manifest(model), 1);
  auto ops = make_cpu_ops({.threads = 1}).value();
  const RankComms none;
  const auto decoder = Decoder::make(model, options, source, *ops, none);
  HYLAS_CHECK(decoder.ok(), "{}", decoder.error().message);
  return {static_cast<int64_t>(source.bytes_used()), source.names_used()};
}

DecoderOptions options_of(const ModelConfig& model, const ParallelSizes& sizes, int32_t rank) {
  const std::vector<int32_t> begins = balance(estimate_costs(model), sizes.pp).value();
  DecoderOptions options;
  options.shard = {sizes, place_of(sizes, rank)};
  options.layer_begin = begins[options.shard.place.stage];
  options.layer_end = begins[options.shard.place.stage + 1];
  return options;
}

constexpr ParallelSizes kLayouts[] = {
    {},
    {.tp = 2},
    {.tp = 4},
    {.pp = 2},
    {.pp = 4},
    {.tp = 2, .pp = 3},
    {.tp = 2, .pp = 4},
    {.tp = 2, .ep = 2},
    {.tp = 4, .ep = 2},
    {.tp = 4, .ep = 4, .dp = 2},
    {.tp = 4, .pp = 2, .ep = 4, .dp = 4},
    {.tp = 4, .dp = 2},
};

TEST(ShardBytes, EveryRankOfEveryLayoutLoadsWhatThePlanSays) {
  for (const LayoutKind kind : {LayoutKind::kDense, LayoutKind::kMoe, LayoutKind::kMoeFp8}) {
    for (const int layers : {8, 5}) {
      const LayoutModel layout{kind, layers};
      const ModelConfig model = parse_model_config(test::layout_model_path(layout)).value();
      for (const ParallelSizes& sizes : kLayouts) {
        if (sizes.ep > 1 && kind == LayoutKind::kDense) continue;
        ASSERT_TRUE(check_shapes(model, sizes).ok());
        for (int32_t rank = 0; rank < sizes.world(); ++rank) {
          const DecoderOptions options = options_of(model, sizes, rank);
          EXPECT_EQ(load(model, options).bytes, shard_bytes(model, options))
              << layout.name() << ", rank " << rank << " of\n"
              << describe(sizes);
        }
      }
    }
  }
}

TEST(ShardBytes, AStageReadsOnlyItsOwnLayersAndTheLastOneTheHead) {
  const ModelConfig model = parse_model_config(test::layout_model_path({LayoutKind::kMoe, 8})).value();
  const std::set<std::string> first = load(model, options_of(model, {.pp = 2}, 0)).names;
  const std::set<std::string> last = load(model, options_of(model, {.pp = 2}, 1)).names;
  EXPECT_THAT(first, AllOf(Contains(HasSubstr("embed_tokens")), Contains(HasSubstr("layers.0.")),
                           Not(Contains(HasSubstr("layers.7."))), Not(Contains(HasSubstr("lm_head")))));
  EXPECT_THAT(last, AllOf(Contains(HasSubstr("lm_head")), Contains(HasSubstr("layers.7.")),
                          Not(Contains(HasSubstr("layers.0."))), Not(Contains(HasSubstr("embed_tokens")))));
}

// 4 key and 8 value heads of 32: q and k have 128 rows each, v 256.
TEST(ShardBytes, TheProjectionOfALinearLayerIsReadAsThreeSegments) {
  const ModelConfig model = parse_model_config(test::layout_model_path({LayoutKind::kMoe, 8})).value();
  const std::set<std::string> names = load(model, options_of(model, {.tp = 2}, 1)).names;
  for (const char* part :
       {"in_proj_qkv.weight[rows 64:128]", "in_proj_qkv.weight[rows 192:256]", "in_proj_qkv.weight[rows 384:512]",
        "conv1d.weight[rows 64:128]", "conv1d.weight[rows 192:256]", "conv1d.weight[rows 384:512]"}) {
    EXPECT_THAT(names, Contains(HasSubstr(part)));
  }
}

// model.md section 5: 396.3e9 parameters of text, one byte for most of them.
TEST(ShardBytes, OfTheReleasedModelOverTheSeedsLayouts) {
  const std::string configs = std::string(HYLAS_SOURCE_DIR) + "/models/configs/";
  const ModelConfig model = parse_model_config(configs + "qwen3.5-397b-a17b-fp8").value();
  const auto total = [&](const ParallelSizes& sizes) {
    int64_t bytes = 0;
    for (int32_t rank = 0; rank < sizes.world(); ++rank) bytes += shard_bytes(model, options_of(model, sizes, rank));
    return static_cast<double>(bytes);
  };
  const double whole = total({});
  EXPECT_NEAR(whole, 398.8e9, 0.5e9) << "and a second byte for embedding, head, router and gates";
  EXPECT_NEAR(total({.pp = 4}), whole, 1) << "stages share nothing";
  EXPECT_NEAR(total({.tp = 2, .pp = 4}) / whole, 1.0, 0.002) << "norms and routers twice";
  const double decode = total({.tp = 8, .ep = 8, .dp = 4});
  EXPECT_GT(decode, whole + 3 * 7e9) << "attention four times, the shared expert eight times";
  EXPECT_LT(decode, whole * 1.15);
}

}  // namespace
}  // namespace hylas
