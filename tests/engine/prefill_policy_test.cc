#include "engine/prefill_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace hylas {
namespace {

using testing::ElementsAre;

std::vector<int32_t> cut(std::vector<PrefillNeed> needs, int32_t budget) { return cut_chunks(needs, budget); }

TEST(PrefillPolicy, APromptThatFitsGoesInOnePiece) {
  EXPECT_THAT(cut({{0, 512}}, 512), ElementsAre(512));
  EXPECT_THAT(cut({{0, 1}}, 512), ElementsAre(1));
}

TEST(PrefillPolicy, ALongPromptIsCutAtAMultipleOf64) {
  EXPECT_THAT(cut({{0, 1000}}, 512), ElementsAre(512));
  EXPECT_THAT(cut({{0, 1000}}, 500), ElementsAre(448));
  EXPECT_THAT(cut({{960, 1000}}, 512), ElementsAre(40)) << "the last chunk ends where the prompt ends";
}

TEST(PrefillPolicy, SeveralPromptsShareTheBudgetOldestFirst) {
  EXPECT_THAT(cut({{0, 100}, {0, 200}, {0, 50}}, 512), ElementsAre(100, 200, 50));
  EXPECT_THAT(cut({{64, 164}, {0, 600}, {0, 50}}, 512), ElementsAre(100, 384, 0));
}

TEST(PrefillPolicy, NobodyOvertakesAPromptThatWasCut) {
  EXPECT_THAT(cut({{0, 490}, {0, 600}, {0, 5}}, 512), ElementsAre(490, 0, 0));
}

TEST(PrefillPolicy, AnyNeedsAreCutAtUnitsWithinTheBudgetAndTheFirstAlwaysGetsOn) {
  const uint64_t seed = 11;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<PrefillNeed> needs(1 + random() % 6);
    for (PrefillNeed& need : needs) {
      need.begin = static_cast<int32_t>(random() % 10) * kChunkUnit;
      need.end = need.begin + 1 + static_cast<int32_t>(random() % 700);
    }
    const int32_t budget = kChunkUnit + static_cast<int32_t>(random() % 600);
    std::vector<int32_t> chunks = cut_chunks(needs, budget);
    int32_t total = 0;
    for (size_t i = 0; i < needs.size(); ++i) {
      total += chunks[i];
      const int32_t end = needs[i].begin + chunks[i];
      EXPECT_TRUE(end == needs[i].end || end % kChunkUnit == 0);
      EXPECT_LE(end, needs[i].end);
    }
    EXPECT_LE(total, budget);
    EXPECT_GT(chunks[0], 0);
  }
}

// Attention costs as much as everything else at a prefix of 4096.
constexpr StepCost kCost{.step_us = 500, .token_us = 4.096, .pair_us = 1e-3};

std::vector<int32_t> cut_by_time(std::vector<PrefillNeed> needs, int32_t budget, bool others_wait = false) {
  return cut_chunks_by_time(needs, budget, kCost, others_wait);
}

// The chunks of one prompt that has the steps for itself.
std::vector<int32_t> chunks_of(int32_t prompt, int32_t budget, const StepCost& cost, bool others_wait = false) {
  std::vector<int32_t> chunks;
  for (int32_t begin = 0; begin < prompt; begin += chunks.back()) {
    const PrefillNeed need{begin, prompt};
    chunks.push_back(cut_chunks_by_time({&need, 1}, budget, cost, others_wait)[0]);
  }
  return chunks;
}

TEST(DynamicChunks, WithoutAPrefixTheStepTakesItsWholeBudget) {
  EXPECT_THAT(cut_by_time({{0, 512}}, 512), ElementsAre(512));
  EXPECT_THAT(cut_by_time({{0, 5000}}, 512), ElementsAre(512));
  EXPECT_THAT(cut_by_time({{0, 5000}}, 500), ElementsAre(448));
}

TEST(DynamicChunks, ShrinkAsThePrefixGrowsSoThatStepsTakeEqualTime) {
  const std::vector<int32_t> chunks = chunks_of(32000, 2048, kCost);
  const double first_us = kCost.of(StepLoad::of(0, 2048));
  int32_t begin = 0;
  for (size_t i = 0; i + 2 < chunks.size(); ++i) {
    const double us = kCost.of(StepLoad::of(begin, chunks[i]));
    EXPECT_LE(us, 1.001 * first_us) << i;
    EXPECT_GT(us, first_us - kCost.token_us * 64 - kCost.pair_us * 64 * (begin + chunks[i])) << "one unit more fits";
    if (i > 0) {
      EXPECT_LE(chunks[i], chunks[i - 1]) << i;
    }
    begin += chunks[i];
  }
  EXPECT_LT(chunks[chunks.size() / 2], 1024);
}

TEST(DynamicChunks, AreAtLeastAnEighthOfTheBudget) {
  EXPECT_THAT(cut_by_time({{1 << 20, 1 << 21}}, 2048), ElementsAre(256));
  EXPECT_THAT(cut_by_time({{1 << 20, 1 << 21}}, 256), ElementsAre(64));
}

TEST(DynamicChunks, StayWholeWhereThePrefixCostsNothing) {
  EXPECT_THAT(chunks_of(3000, 1024, {.token_us = 2}), ElementsAre(1024, 1024, 952));
}

TEST(DynamicChunks, ASmallRestIsSharedByTheLastTwoChunks) {
  EXPECT_THAT(chunks_of(2100, 1024, {.token_us = 2}), ElementsAre(1024, 576, 500));
  EXPECT_THAT(chunks_of(1025, 1024, {.token_us = 2}), ElementsAre(576, 449));
  EXPECT_THAT(chunks_of(2100, 1024, {.token_us = 2}, true), ElementsAre(1024, 1024, 52))
      << "the next prompt fills the last step";
}

TEST(DynamicChunks, PromptsShareTheTimeOfAStep) {
  EXPECT_THAT(cut_by_time({{0, 100}, {0, 200}, {0, 50}}, 512), ElementsAre(100, 200, 50));
  const std::vector<int32_t> chunks = cut_by_time({{8192, 8292}, {0, 600}, {0, 50}}, 512, true);
  EXPECT_EQ(chunks[0], 100);
  EXPECT_LT(chunks[1], 384) << "the first prompt's tokens cost more than their number";
  EXPECT_GE(chunks[1], 128);
  EXPECT_EQ(chunks[2], 0) << "nobody is overtaken";
}

TEST(DynamicChunks, AnyNeedsAreCutAtUnitsWithinTheBudgetAndTheFirstAlwaysGetsOn) {
  const uint64_t seed = 12;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 5000; ++round) {
    std::vector<PrefillNeed> needs(1 + random() % 6);
    for (PrefillNeed& need : needs) {
      need.begin = static_cast<int32_t>(random() % 300) * kChunkUnit;
      need.end = need.begin + 1 + static_cast<int32_t>(random() % 3000);
    }
    const int32_t budget = kChunkUnit + static_cast<int32_t>(random() % 3000);
    const auto draw = [&](double most) { return most * static_cast<double>(random() % 1000) / 1000; };
    const StepCost cost{draw(1e4), draw(10), draw(1e-2)};
    const bool others_wait = random() % 2 == 0;
    const std::vector<int32_t> chunks = cut_chunks_by_time(needs, budget, cost, others_wait);
    int32_t total = 0;
    bool cut_one = false;
    for (size_t i = 0; i < needs.size(); ++i) {
      total += chunks[i];
      const int32_t end = needs[i].begin + chunks[i];
      EXPECT_TRUE(end == needs[i].end || end % kChunkUnit == 0);
      EXPECT_LE(end, needs[i].end);
      EXPECT_FALSE(cut_one && chunks[i] > 0);
      cut_one |= end != needs[i].end;
    }
    EXPECT_LE(total, budget);
    EXPECT_GT(chunks[0], 0);
  }
}

}  // namespace
}  // namespace hylas
