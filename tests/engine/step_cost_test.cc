#include "engine/step_cost.h"

#include <gtest/gtest.h>

#include <random>

namespace hylas {
namespace {

constexpr StepCost kTruth{.step_us = 900, .token_us = 2.5, .pair_us = 4e-4};

// A step of one chunk of `tokens` after a random prefix.
StepLoad random_load(std::mt19937_64& random) {
  const double tokens = 64.0 * static_cast<double>(1 + random() % 64);
  return StepLoad::of(64.0 * static_cast<double>(random() % 1000), tokens);
}

void expect_close(const StepCost& cost, const StepCost& truth, double share) {
  for (const auto& [prefix, tokens] : {std::pair{0, 4096}, {0, 512}, {60000, 2048}}) {
    const StepLoad load = StepLoad::of(prefix, tokens);
    EXPECT_NEAR(cost.of(load) / truth.of(load), 1, share) << tokens << " tokens after " << prefix;
  }
}

TEST(StepCost, ARowCostsItsTokensAndEveryPairOfATokenAndOneBeforeIt) {
  const StepLoad load = StepLoad::of(100, 10);
  EXPECT_DOUBLE_EQ(load.tokens, 10);
  EXPECT_DOUBLE_EQ(load.pairs, 10 * 105);
  EXPECT_DOUBLE_EQ(kTruth.of(load), 900 + 25 + 4e-4 * 1050);
}

TEST(StepCost, TheGroupWithMostTokensCounts) {
  const PlanRow rows[] = {{.group = 0, .begin = 0, .length = 64},
                          {.group = 1, .begin = 128, .length = 64},
                          {.group = 1, .begin = 0, .length = 1}};
  const StepLoad load = load_of(rows, 2);
  EXPECT_DOUBLE_EQ(load.tokens, 65);
  EXPECT_DOUBLE_EQ(load.pairs, 64 * 160 + 0.5);
}

TEST(StepCostModel, KnowsNothingAtFirst) {
  const StepCostModel model;
  EXPECT_FALSE(model.is_known());
  EXPECT_EQ(model.cost().token_us, 0);
}

TEST(StepCostModel, FindsTheCostOfNoisySteps) {
  const uint64_t seed = 3;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(1, 0.05);
  StepCostModel model;
  for (int i = 0; i < 200; ++i) {
    const StepLoad load = random_load(random);
    model.add(load, kTruth.of(load) * noise(random));
  }
  ASSERT_TRUE(model.is_known());
  expect_close(model.cost(), kTruth, 0.1);
}

TEST(StepCostModel, AStepThatTookAHundredTimesAsLongHardlyMovesIt) {
  const uint64_t seed = 4;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(1, 0.02);
  StepCostModel model;
  for (int i = 0; i < 200; ++i) {
    const StepLoad load = random_load(random);
    model.add(load, kTruth.of(load) * noise(random) * (i > 20 && i % 25 == 0 ? 100 : 1));
  }
  expect_close(model.cost(), kTruth, 0.15);
}

TEST(StepCostModel, FollowsAMachineThatBecomesSlower) {
  const uint64_t seed = 5;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(1, 0.02);
  StepCostModel model;
  for (int i = 0; i < 1200; ++i) {
    const StepLoad load = random_load(random);
    model.add(load, kTruth.of(load) * noise(random) * (i < 200 ? 1 : 1.5));
  }
  expect_close(model.cost(), {1.5 * kTruth.step_us, 1.5 * kTruth.token_us, 1.5 * kTruth.pair_us}, 0.1);
}

TEST(StepCostModel, StepsThatAreAllAlikeTellNothingAboutThePrefix) {
  StepCostModel model;
  for (int i = 0; i < 1000; ++i) model.add(StepLoad::of(0, 4096), 10000);
  EXPECT_FALSE(model.is_known());
}

TEST(StepCostModel, WithWholeChunksOnlyTheTimeCountsAsTheTokens) {
  StepCostModel model;
  for (int i = 0; i < 40; ++i) {
    const StepLoad load = StepLoad::of(4096 * (i % 8), 4096);
    model.add(load, kTruth.of(load));
  }
  ASSERT_TRUE(model.is_known());
  EXPECT_NEAR(model.cost().pair_us / kTruth.pair_us, 1, 0.05);
  EXPECT_NEAR(model.cost().token_us, kTruth.token_us + kTruth.step_us / 4096, 0.1);
}

}  // namespace
}  // namespace hylas
