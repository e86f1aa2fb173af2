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

}  // namespace
}  // namespace hylas
