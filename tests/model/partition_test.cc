#include "model/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelConfig released(const std::string& name) {
  return parse_model_config(std::string(HYLAS_SOURCE_DIR) + "/models/configs/" + name).value();
}

std::vector<int32_t> layers_of(const PartitionCosts& costs, int32_t stages) {
  std::vector<int32_t> begins = balance(costs, stages).value(), layers;
  for (size_t i = 0; i + 1 < begins.size(); ++i) layers.push_back(begins[i + 1] - begins[i]);
  return layers;
}

PartitionCosts equal_layers(int count, double first = 0, double last = 0) {
  return {std::vector<double>(count, 1.0), first, last};
}

TEST(Partition, EqualLayersAreSharedEvenly) {
  EXPECT_THAT(layers_of(equal_layers(60), 4), ElementsAre(15, 15, 15, 15));
  EXPECT_THAT(layers_of(equal_layers(8), 1), ElementsAre(8));
  EXPECT_THAT(layers_of(equal_layers(4), 4), ElementsAre(1, 1, 1, 1));
}

TEST(Partition, AmongEqualOnesTheLateStagesAreShort) {
  EXPECT_THAT(layers_of(equal_layers(5), 2), ElementsAre(3, 2));
  EXPECT_THAT(layers_of(equal_layers(7), 3), ElementsAre(3, 3, 1));
}

TEST(Partition, TheHeadTakesLayersOffTheLastStageAndTheEmbeddingOffTheFirst) {
  EXPECT_THAT(layers_of(equal_layers(60, 0, 4), 4), ElementsAre(16, 16, 16, 12));
  EXPECT_THAT(layers_of(equal_layers(60, 3, 0), 4), ElementsAre(13, 16, 16, 15));
}

TEST(Partition, ADearLayerStandsAlone) { EXPECT_THAT(layers_of({{1, 1, 1, 9, 1, 1}, 0, 0}, 3), ElementsAre(3, 1, 2)); }

TEST(Partition, NoOtherCutIsCheaper) {
  const uint64_t seed = 21;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto cost = [&] { return static_cast<double>(1 + random() % 100); };
  for (int round = 0; round < 300; ++round) {
    PartitionCosts costs{{}, cost(), cost()};
    for (uint64_t i = 0, n = 3 + random() % 7; i < n; ++i) costs.layers.push_back(cost());
    const auto n = static_cast<int32_t>(costs.layers.size());
    const auto dearest = [&](const std::vector<int32_t>& begins) {
      double most = 0;
      for (size_t s = 0; s + 1 < begins.size(); ++s) {
        const auto at = costs.layers.begin();
        const double sum = std::accumulate(at + begins[s], at + begins[s + 1], 0.0);
        most = std::max(most, sum + (s == 0 ? costs.first : 0) + (s + 2 == begins.size() ? costs.last : 0));
      }
      return most;
    };
    double best = 1e9;
    for (int32_t a = 1; a < n - 1; ++a) {
      for (int32_t b = a + 1; b < n; ++b) best = std::min(best, dearest({0, a, b, n}));
    }
    EXPECT_DOUBLE_EQ(dearest(balance(costs, 3).value()), best);
  }
}

// A full-attention layer costs 6 % more than a linear one at 4096 tokens, and the head 6 % of a layer when a row in 64
// has logits: less than a layer, so nothing moves.
TEST(Partition, TheReleasedModelsOverFourStages) {
  EXPECT_THAT(layers_of(estimate_costs(released("qwen3.5-397b-a17b-fp8")), 4), ElementsAre(15, 15, 15, 15));
  EXPECT_THAT(layers_of(estimate_costs(released("qwen3.5-35b-a3b-fp8")), 4), ElementsAre(10, 10, 10, 10));
}

// In decode every row has logits, and the head of a small model weighs as much as many layers.
TEST(Partition, TheHeadCountsFullyWhereEveryTokenHasLogits) {
  const PartitionCosts costs = estimate_costs(released("qwen3.5-0.8b"), 4096, 1);
  EXPECT_GT(costs.last, 10 * costs.layers[0]);
  const std::vector<int32_t> layers = layers_of(costs, 2);
  EXPECT_GT(layers[0], layers[1] + 6);
}

TEST(Partition, FullAttentionCostsMoreTheLongerThePrompt) {
  const ModelConfig config = released("qwen3.5-397b-a17b-fp8");
  const auto ratio = [&](int32_t context) {
    const PartitionCosts costs = estimate_costs(config, context);
    return costs.layers[3] / costs.layers[0];
  };
  EXPECT_NEAR(ratio(4096), 1.06, 0.01);
  EXPECT_GT(ratio(131072), 3);
}

TEST(Partition, MoreStagesThanLayersAreRefused) {
  const auto refused = balance(equal_layers(3), 4);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(refused.error().message, "--pp-size 4: the model has only 3 layers");
}

TEST(ParsePartition, GivesTheFirstLayerOfEachStage) {
  EXPECT_THAT(parse_partition("15,15,15,15", 60, 4).value(), ElementsAre(0, 15, 30, 45, 60));
  EXPECT_THAT(parse_partition("2,3", 5, 2).value(), ElementsAre(0, 2, 5));
  EXPECT_THAT(parse_partition("8", 8, 1).value(), ElementsAre(0, 8));
}

std::string refusal(const std::string& text, int32_t layers, int32_t stages, ErrorCode code = ErrorCode::kUnsupported) {
  const auto parsed = parse_partition(text, layers, stages);
  if (parsed.ok()) return "accepted";
  EXPECT_EQ(parsed.error().code, code);
  return parsed.error().message;
}

TEST(ParsePartition, RefusesAWrongSumWithBothNumbers) {
  EXPECT_EQ(refusal("15,15,15,14", 60, 4),
            "--pp-layer-partition 15,15,15,14: the sum is 59, but the model has 60 layers");
  EXPECT_THAT(refusal("2147483647,2147483647", 60, 2), HasSubstr("but the model has 60 layers"));
}

TEST(ParsePartition, RefusesAWrongCountWithBothNumbers) {
  EXPECT_EQ(refusal("30,30", 60, 4), "--pp-layer-partition 30,30: 2 numbers for 4 stages (--pp-size)");
}

TEST(ParsePartition, RefusesWhatIsNoNumberOfLayers) {
  for (const char* text : {"15,x,15,15", "15,,30,15", "0,30,15,15", "-1,31,15,15", "15,15,15,15,", "", "15;45", "1.5",
                           "99999999999999999999"}) {
    EXPECT_THAT(refusal(text, 60, 4, ErrorCode::kInvalid), HasSubstr("is no number of layers")) << text;
  }
}

}  // namespace
}  // namespace hylas
