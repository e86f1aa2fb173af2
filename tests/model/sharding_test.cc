#include "model/sharding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;

ModelConfig released(const std::string& name) {
  return parse_model_config(std::string(HYLAS_SOURCE_DIR) + "/models/configs/" + name).value();
}

// Small numbers that admit tp 4; a test breaks one of them.
ModelConfig small_moe() {
  ModelConfig config;
  config.vocab_size = 256;
  config.hidden_size = 128;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 32;
  config.linear_key_heads = 4;
  config.linear_value_heads = 8;
  config.linear_key_dim = config.linear_value_dim = 32;
  config.experts = 16;
  config.experts_per_token = 4;
  config.moe_intermediate_size = config.shared_intermediate_size = 512;
  return config;
}

std::string refusal(const ModelConfig& config, const ParallelSizes& sizes) {
  const Status status = check_shapes(config, sizes);
  if (status.ok()) return "accepted";
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  return status.error().message;
}

std::string refusal(void (*change)(ModelConfig&), const ParallelSizes& sizes) {
  ModelConfig config = small_moe();
  change(config);
  return refusal(config, sizes);
}

TEST(Shapes, TheSeedsLayoutsAreAccepted) {
  const ModelConfig model = released("qwen3.5-397b-a17b-fp8");
  EXPECT_EQ(refusal(model, {.tp = 2, .pp = 4}), "accepted");
  EXPECT_EQ(refusal(model, {.tp = 8, .ep = 8, .dp = 4}), "accepted");
  EXPECT_EQ(refusal(model, {.tp = 8}), "accepted");
}

TEST(Shapes, EveryReleasedModelIsAcceptedOnTwoAndFourRanks) {
  for (const char* name :
       {"qwen3.5-0.8b", "qwen3.5-2b", "qwen3.5-4b", "qwen3.5-9b", "qwen3.5-27b", "qwen3.5-27b-fp8", "qwen3.5-35b-a3b",
        "qwen3.5-35b-a3b-fp8", "qwen3.5-122b-a10b", "qwen3.5-122b-a10b-fp8", "qwen3.5-397b-a17b",
        "qwen3.5-397b-a17b-fp8", "qwen3.8-2.4t-a95b", "qwen3.8-2.4t-a95b-fp8"}) {
    for (int tp : {2, 4}) EXPECT_EQ(refusal(released(name), {.tp = tp}), "accepted") << name << " tp " << tp;
  }
}

TEST(Shapes, OneRankTakesWhateverThereIs) {
  EXPECT_EQ(refusal([](ModelConfig& c) { c.heads = 7, c.vocab_size = 251, c.moe_intermediate_size = 13; }, {.pp = 4}),
            "accepted");
}

TEST(Shapes, HeadsThatTheRanksDoNotDivideAreRefused) {
  EXPECT_EQ(refusal([](ModelConfig& c) { c.heads = 6; }, {.tp = 4}),
            "num_attention_heads 6 cannot be split over 4 ranks (--tp-size)");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.linear_key_heads = 2; }, {.tp = 4}),
            "linear_num_key_heads 2 cannot be split over 4 ranks (--tp-size)");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.vocab_size = 254; }, {.tp = 4}),
            "vocab_size 254 cannot be split over 4 ranks (--tp-size)");
}

TEST(Shapes, KvHeadsAreSplitOrReplicatedEvenly) {
  EXPECT_EQ(refusal([](ModelConfig& c) { c.kv_heads = 1; }, {.tp = 4}), "accepted");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.kv_heads = 3; }, {.tp = 4}),
            "num_key_value_heads 3 cannot be replicated over 4 ranks (--tp-size)");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.kv_heads = 3; }, {.tp = 2}),
            "num_key_value_heads 3 cannot be split over 2 ranks (--tp-size)");
}

TEST(Shapes, Fp8BlocksStayWhole) {
  EXPECT_EQ(refusal(released("qwen3.5-397b-a17b-fp8"), {.tp = 16}),
            "moe_intermediate_size 1024 over 16 ranks (--tp-size) gives 64, which is no multiple of 128: FP8 blocks "
            "stay whole");
  EXPECT_EQ(refusal(released("qwen3.5-397b-a17b-fp8"), {.tp = 16, .ep = 2}), "accepted") << "eight ranks an expert";
  EXPECT_EQ(refusal(released("qwen3.5-397b-a17b"), {.tp = 16}), "accepted") << "bf16 has no blocks";
  EXPECT_THAT(refusal([](ModelConfig& c) { c.quantised = true; }, {.tp = 4}),
              HasSubstr("attention columns 256 over 4 ranks (--tp-size) gives 64"));
}

TEST(Shapes, ExpertsAreSpreadWhole) {
  EXPECT_EQ(refusal([](ModelConfig& c) { c.experts = 6; }, {.tp = 4, .ep = 4}),
            "num_experts 6 cannot be split over 4 ranks (--ep-size)");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.moe_intermediate_size = 18; }, {.tp = 4, .ep = 2}),
            "moe_intermediate_size 18 over 2 ranks (--tp-size / --ep-size) gives 9, which is no multiple of 8");
}

TEST(Shapes, ADenseModelHasNoExpertsToSpread) {
  EXPECT_EQ(refusal(released("qwen3.5-9b"), {.tp = 2, .ep = 2}), "--ep-size 2: a dense model has no experts to spread");
}

TEST(Shapes, AttentionIsSplitOverTheRanksOfADpGroupOnly) {
  const auto six_heads = [](ModelConfig& c) { c.heads = 6; };
  EXPECT_EQ(refusal(six_heads, {.tp = 4, .dp = 2}), "accepted") << "three heads on each of two ranks";
  EXPECT_EQ(refusal(six_heads, {.tp = 4, .dp = 1}), "num_attention_heads 6 cannot be split over 4 ranks (--tp-size)");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.heads = 7; }, {.tp = 4, .dp = 2}),
            "num_attention_heads 7 cannot be split over 2 ranks (--tp-size / --dp-size)");
}

Shard shard_of(const ParallelSizes& sizes, int32_t rank) { return {sizes, place_of(sizes, rank)}; }

void expect_range(const Range& range, int64_t begin, int64_t count) {
  EXPECT_EQ(range.begin, begin);
  EXPECT_EQ(range.count, count);
}

// PP4 x TP2: rank 5 is the second of stage 2.
TEST(Ranges, OfThePipelineLayout) {
  const ModelConfig model = released("qwen3.5-397b-a17b-fp8");
  const Shard shard = shard_of({.tp = 2, .pp = 4}, 5);
  ASSERT_EQ(shard.place.stage, 2);
  expect_range(query_heads(model, shard), 16, 16);
  expect_range(kv_heads(model, shard), 1, 1);
  EXPECT_FALSE(kv_replicated(model, shard));
  expect_range(linear_key_heads(model, shard), 8, 8);
  expect_range(linear_value_heads(model, shard), 32, 32);
  expect_range(vocab_rows(model, shard), 124160, 124160);
  expect_range(expert_widths(model, shard), 512, 512);
  expect_range(shared_widths(model, shard), 512, 512);
  expect_range(experts_held(model, shard), 0, 512);
}

// TP8, EP8, DP4: attention over two ranks, each rank whole experts.
TEST(Ranges, OfTheDecodeLayout) {
  const ModelConfig model = released("qwen3.5-397b-a17b-fp8");
  const Shard shard = shard_of({.tp = 8, .ep = 8, .dp = 4}, 5);
  ASSERT_EQ(shard.place.dp_group, 2);
  ASSERT_EQ(shard.place.attn_rank, 1);
  expect_range(query_heads(model, shard), 16, 16);
  expect_range(kv_heads(model, shard), 1, 1);
  expect_range(vocab_rows(model, shard), 124160, 124160);
  expect_range(experts_held(model, shard), 320, 64);
  expect_range(expert_widths(model, shard), 0, 1024);
  expect_range(shared_widths(model, shard), 0, 1024);
}

TEST(Ranges, TwoKvHeadsOverEightRanksAreHeldByFourEach) {
  const ModelConfig model = released("qwen3.5-397b-a17b-fp8");
  for (int32_t rank = 0; rank < 8; ++rank) {
    const Shard shard = shard_of({.tp = 8}, rank);
    EXPECT_TRUE(kv_replicated(model, shard));
    expect_range(kv_heads(model, shard), rank / 4, 1);
    expect_range(query_heads(model, shard), rank * 4, 4);
    EXPECT_EQ(query_heads(model, shard).begin / 16, kv_heads(model, shard).begin) << "a query head finds its KV head";
  }
}

TEST(Ranges, ADenseModelIsSplitOverAllRanksOfAStageAlsoWhereAttentionIsNot) {
  const ModelConfig model = released("qwen3.5-9b");
  const Shard shard = shard_of({.tp = 4, .dp = 4}, 3);
  expect_range(query_heads(model, shard), 0, 16);
  expect_range(dense_widths(model, shard), 9216, 3072);
}

TEST(Ranges, CoverEverythingOnce) {
  const ModelConfig model = released("qwen3.5-35b-a3b-fp8");
  for (const ParallelSizes& sizes : {ParallelSizes{.tp = 4}, {.tp = 4, .ep = 2}, {.tp = 4, .ep = 4, .dp = 2}}) {
    const auto covers = [&](auto range_of, int64_t size, int32_t parts, auto part_of) {
      for (int32_t rank = 0; rank < sizes.world(); ++rank) {
        const Shard shard = shard_of(sizes, rank);
        const Range range = range_of(model, shard);
        EXPECT_EQ(range.count, size / parts);
        EXPECT_EQ(range.begin, size / parts * part_of(shard.place));
      }
    };
    covers(query_heads, model.heads, sizes.attn_tp(), [](const RankPlace& p) { return p.attn_rank; });
    covers(linear_value_heads, model.linear_value_heads, sizes.attn_tp(),
           [](const RankPlace& p) { return p.attn_rank; });
    covers(experts_held, model.experts, sizes.ep, [](const RankPlace& p) { return p.ep_rank; });
    covers(expert_widths, model.moe_intermediate_size, sizes.moe_tp(), [](const RankPlace& p) { return p.moe_rank; });
  }
}

TEST(Slices, FourInAllUpToFourRanks) {
  EXPECT_EQ(slices_of(1), 4);
  EXPECT_EQ(slices_of(2), 2);
  EXPECT_EQ(slices_of(4), 1);
  EXPECT_EQ(slices_of(8), 1);
}

}  // namespace
}  // namespace hylas
