// What of a prompt an instance has seen before.
#include "router/prefix_map.h"

#include <gtest/gtest.h>

#include <string>

namespace hylas::router {
namespace {

std::string text(size_t blocks, char fill) { return std::string(blocks * kPrefixBlockBytes, fill); }

TEST(PrefixMap, OnlyWholeBlocksCount) {
  EXPECT_EQ(prefix_blocks("").size(), 0u);
  EXPECT_EQ(prefix_blocks(std::string(kPrefixBlockBytes - 1, 'x')).size(), 0u);
  EXPECT_EQ(prefix_blocks(std::string(2 * kPrefixBlockBytes + 5, 'x')).size(), 2u);
  EXPECT_EQ(prefix_blocks(text(kPrefixBlocksMax + 3, 'x')).size(), kPrefixBlocksMax);
}

TEST(PrefixMap, ABlocksHashIsOfAllBeforeIt) {
  auto same = prefix_blocks(text(2, 'a') + text(1, 'b')),
       other = prefix_blocks(text(1, 'c') + text(1, 'a') + text(1, 'b'));
  EXPECT_NE(same[1], other[1]);
  EXPECT_NE(same[2], other[2]);
  EXPECT_NE(same[0], same[1]);
  EXPECT_EQ(prefix_blocks(text(2, 'a'))[1], same[1]);
}

TEST(PrefixMap, MatchesFromTheStart) {
  PrefixMap map(100);
  map.insert(prefix_blocks(text(3, 'a') + text(2, 'b')));
  EXPECT_EQ(map.matched(prefix_blocks(text(3, 'a') + text(2, 'b'))), 5u);
  EXPECT_EQ(map.matched(prefix_blocks(text(3, 'a') + text(2, 'c'))), 3u);
  EXPECT_EQ(map.matched(prefix_blocks(text(3, 'b'))), 0u);
  EXPECT_EQ(map.matched({}), 0u);
}

TEST(PrefixMap, IsBoundedAndForgetsTheOldest) {
  PrefixMap map(10);
  auto system = prefix_blocks(text(4, 's'));
  map.insert(system);
  for (char c = 'a'; c < 'f'; ++c) {
    map.insert(system);  // still in use
    map.insert(prefix_blocks(text(4, c)));
    EXPECT_LE(map.size(), 10u);
  }
  EXPECT_EQ(map.matched(system), 4u);
  EXPECT_EQ(map.matched(prefix_blocks(text(4, 'e'))), 4u);
  EXPECT_EQ(map.matched(prefix_blocks(text(4, 'a'))), 0u);
}

TEST(PrefixMap, OfOnePromptTheEndGoesFirst) {
  PrefixMap map(6);
  map.insert(prefix_blocks(text(4, 'a')));
  map.insert(prefix_blocks(text(4, 'b')));
  EXPECT_EQ(map.matched(prefix_blocks(text(4, 'a'))), 2u);
  map.insert(prefix_blocks(text(20, 'c')));
  EXPECT_EQ(map.matched(prefix_blocks(text(20, 'c'))), 6u);
}

}  // namespace
}  // namespace hylas::router
