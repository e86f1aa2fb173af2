// Where states land, and that nobody hears of a copy before it is made.
#include "engine/landing_area.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "support/late_device.h"
#include "support/pool_bytes.h"

namespace hylas {
namespace {

class LandingAreaOf : public testing::Test {
 protected:
  // All of the area's memory.
  void fill(int value) { std::memset(area_->memory(), value, area_->memory_bytes()); }
  std::vector<std::byte> page(int32_t id) const { return test::page_of(pools_, id); }
  std::vector<std::byte> slot(int32_t id) const { return test::slot_of(pools_, id); }

  test::LateDevice device_;
  StatePools pools_ = StatePools::make(device_, test::two_kinds_layout(), 6, 4, 3).value();
  std::unique_ptr<LandingArea> area_ = LandingArea::make(device_, test::two_kinds_layout(), 3, 4, 2).value();
  std::vector<uint64_t> left_;
};

TEST_F(LandingAreaOf, AStateThatHasLeftIsOnTheDevice) {
  area_->open([&](uint64_t sequence) { left_.push_back(sequence); });
  fill(5);
  area_->begin({7, 0, {0, {2, 0}, {1, 4}, 1, 2}}, pools_);
  area_->begin({8, 0, {0, {}, {}, 0, 0}}, pools_);
  EXPECT_THAT(left_, testing::IsEmpty()) << "the device may still read it";
  area_->finish();
  EXPECT_THAT(left_, testing::ElementsAre(7, 8));
  fill(9);
  for (const int32_t id : {1, 4}) EXPECT_THAT(page(id), testing::Each(std::byte{5})) << "page " << id;
  for (const int32_t id : {0, 2}) EXPECT_THAT(slot(id), testing::Each(std::byte{5})) << "slot " << id;
  for (const int32_t id : {0, 2, 3, 5}) EXPECT_THAT(page(id), testing::Each(std::byte{0})) << "page " << id;
  EXPECT_THAT(slot(1), testing::Each(std::byte{0}));
  area_->finish();
  EXPECT_EQ(left_.size(), 2u) << "each is told once";
}

TEST_F(LandingAreaOf, NeighboursAreCopiedTogether) {
  area_->open([](uint64_t) {});
  area_->begin({1, 0, {0, {2, 1, 0}, {5, 4, 3}, 0, 0}}, pools_);
  EXPECT_EQ(device_.copies, 4 + 2) << "three pages in each of four blocks, and a slot in each of two";
}

TEST(LandingSize, IsAllThatTheDeviceHasWhereThatIsLittle) {
  const LandingSize size =
      choose_landing({.page_bytes = 1 << 20, .slot_bytes = 1 << 20, .pages = 100, .slots = 8, .prompt_pages = 50});
  EXPECT_EQ(size.pages, 100);
  EXPECT_EQ(size.slots, 8);
}

TEST(LandingSize, IsFourGigabytesWhereTheDeviceHasMore) {
  const LandingSize size = choose_landing(
      {.page_bytes = 1 << 20, .slot_bytes = 64 << 20, .pages = 100000, .slots = 256, .prompt_pages = 50});
  EXPECT_EQ(size.slots, 16);
  EXPECT_EQ(size.pages, 3072);
}

TEST(LandingSize, TakesTheLongestPromptInAnyCase) {
  const LandingSize size = choose_landing(
      {.page_bytes = 8 << 20, .slot_bytes = int64_t{5} << 30, .pages = 900, .slots = 4, .prompt_pages = 800});
  EXPECT_EQ(size.slots, 1);
  EXPECT_EQ(size.pages, 800);
}

TEST(LandingSize, OfAModelWithoutAttentionOrWithoutSlots) {
  EXPECT_EQ(choose_landing({.page_bytes = 0, .slot_bytes = 1, .pages = 10, .slots = 4, .prompt_pages = 5}).pages, 10);
  EXPECT_EQ(choose_landing({.page_bytes = 1, .slot_bytes = 0, .pages = 10, .slots = 4, .prompt_pages = 5}).slots, 4);
}

}  // namespace
}  // namespace hylas
