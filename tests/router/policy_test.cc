// Which of several instances gets a request.
#include "router/policy.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace hylas::router {
namespace {

std::vector<Choice> with_requests(std::vector<int64_t> counts) {
  std::vector<Choice> choices;
  for (int64_t count : counts) choices.push_back({.requests = count, .work = count});
  return choices;
}

TEST(Policy, NamesAreSglangs) {
  for (const char* name : {"round_robin", "random", "power_of_two", "cache_aware"}) {
    auto policy = parse_policy(name);
    ASSERT_TRUE(policy.ok());
    EXPECT_STREQ(policy_name(*policy), name);
  }
  EXPECT_NE(parse_policy("best").error().message.find("power_of_two"), std::string::npos);
}

TEST(Policy, RoundRobinTakesTurns) {
  auto choices = with_requests({9, 0, 4});
  std::vector<size_t> taken;
  for (uint64_t turn = 0; turn < 6; ++turn) taken.push_back(choose(Policy::kRoundRobin, choices, 0, turn, 7, {}));
  EXPECT_EQ(taken, (std::vector<size_t>{0, 1, 2, 0, 1, 2}));
}

TEST(Policy, RandomReachesEveryone) {
  auto choices = with_requests({0, 0, 0});
  std::mt19937_64 random(1);
  std::map<size_t, int> taken;
  for (int i = 0; i < 3000; ++i) ++taken[choose(Policy::kRandom, choices, 0, 0, random(), {})];
  for (const auto& [index, count] : taken) EXPECT_NEAR(count, 1000, 150) << index;
  EXPECT_EQ(taken.size(), 3u);
}

TEST(Policy, PowerOfTwoNeverTakesTheMostLoaded) {
  auto choices = with_requests({3, 8, 5});
  std::mt19937_64 random(1);
  std::map<size_t, int> taken;
  for (int i = 0; i < 3000; ++i) ++taken[choose(Policy::kPowerOfTwo, choices, 0, 0, random(), {})];
  EXPECT_EQ(taken[1], 0);
  EXPECT_NEAR(taken[0], 2000, 150);  // of three pairs it wins two
  EXPECT_EQ(choose(Policy::kPowerOfTwo, with_requests({5}), 0, 0, 1, {}), 0u);
}

TEST(Policy, PowerOfTwoComparesWorkBeforeRequests) {
  std::vector<Choice> choices = {{.requests = 1, .work = 9000}, {.requests = 5, .work = 100}};
  for (uint64_t random = 0; random < 8; ++random) {
    EXPECT_EQ(choose(Policy::kPowerOfTwo, choices, 0, 0, random << 30 | random, {}), 1u);
  }
}

TEST(Policy, CacheAwareGoesWhereThePrefixIsKnown) {
  std::vector<Choice> choices = {{.cached_blocks = 0}, {.requests = 5, .matched_blocks = 4, .cached_blocks = 50}};
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 10, 0, 0, {}), 1u);  // 0.4 is above 0.3
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 20, 0, 0, {}), 0u);  // 0.2 is not: the emptiest cache
}

TEST(Policy, CacheAwareTakesTheLessLoadedOfEquals) {
  std::vector<Choice> choices = {{.requests = 5, .matched_blocks = 4}, {.requests = 2, .matched_blocks = 4}};
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 4, 0, 0, {}), 1u);
}

TEST(Policy, CacheAwareBalancesWhatIsFarApart) {
  std::vector<Choice> choices = {{.requests = 0}, {.requests = 64, .matched_blocks = 4}};
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 4, 0, 0, {}), 1u);
  choices[1].requests = 65;
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 4, 0, 0, {}), 0u);
  choices[0].requests = 200;
  choices[1].requests = 265;  // 65 more, but less than half as much again
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 4, 0, 0, {}), 1u);
}

TEST(Policy, CacheAwareSpreadsPromptsTooShortToRemember) {
  auto choices = with_requests({1, 0, 0});
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 0, 0, 0, {}), 1u);
  EXPECT_EQ(choose(Policy::kCacheAware, choices, 0, 2, 0, {}), 2u);
}

}  // namespace
}  // namespace hylas::router
