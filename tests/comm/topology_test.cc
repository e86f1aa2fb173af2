#include "comm/topology.h"

#include <gtest/gtest.h>

#include <set>

namespace hylas {
namespace {

TEST(Topology, SeedPrefillIsFourStagesOfTwo) {
  const ParallelSizes sizes{.tp = 2, .pp = 4};
  ASSERT_TRUE(check_sizes(sizes).ok());
  const RankPlace place = place_of(sizes, 5);
  EXPECT_EQ(place.stage, 2);
  EXPECT_EQ(place.attn_rank, 1);
}

TEST(Topology, SeedDecodeHasFourAttentionGroupsOfTwoAndEightExpertRanks) {
  const ParallelSizes sizes{.tp = 8, .ep = 8, .dp = 4};
  const RankPlace place = place_of(sizes, 5);
  EXPECT_EQ(place.dp_group, 2);
  EXPECT_EQ(place.attn_rank, 1);
  EXPECT_EQ(place.ep_rank, 5);
  EXPECT_EQ(place.moe_rank, 0);
}

TEST(Topology, EveryRankHasItsOwnPlace) {
  for (int tp : {1, 2, 4, 8}) {
    for (int pp : {1, 2, 3, 4}) {
      for (int ep = 1; ep <= tp; ep *= 2) {
        for (int dp = 1; dp <= tp; dp *= 2) {
          const ParallelSizes sizes{.tp = tp, .pp = pp, .ep = ep, .dp = dp};
          std::set<std::vector<int32_t>> attention, experts;
          for (int rank = 0; rank < sizes.world(); ++rank) {
            const RankPlace p = place_of(sizes, rank);
            attention.insert({p.stage, p.dp_group, p.attn_rank});
            experts.insert({p.stage, p.ep_rank, p.moe_rank});
          }
          EXPECT_EQ(attention.size(), static_cast<size_t>(sizes.world()));
          EXPECT_EQ(experts.size(), static_cast<size_t>(sizes.world()));
        }
      }
    }
  }
}

TEST(Topology, RefusesSizesThatDoNotDivideWithTheNumbers) {
  const Status dp = check_sizes({.tp = 4, .dp = 3});
  ASSERT_FALSE(dp.ok());
  EXPECT_EQ(dp.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(dp.error().message.find("--dp-size 3"), std::string::npos);
  EXPECT_NE(check_sizes({.tp = 4, .ep = 8}).error().message.find("--ep-size 8"), std::string::npos);
  EXPECT_NE(check_sizes({.tp = 6}).error().message.find("--tp-size 6"), std::string::npos);
  EXPECT_NE(check_sizes({.tp = 2, .pp = 4, .nodes = 3}).error().message.find("--nnodes 3"), std::string::npos);
  EXPECT_NE(check_sizes({.tp = 0}).error().message.find("--tp-size"), std::string::npos);
}

}  // namespace
}  // namespace hylas
