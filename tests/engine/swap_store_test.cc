#include "engine/swap_store.h"

#include <gtest/gtest.h>

#include <cstring>

#include "support/pool_bytes.h"

namespace hylas {
namespace {

class SwapStoreTest : public testing::Test {
 protected:
  std::vector<std::byte> page(int32_t id) const { return test::page_of(pools_, id); }
  std::vector<std::byte> slot(int32_t id) const { return test::slot_of(pools_, id); }
  void fill_page(int32_t id, int value) {
    std::vector<std::byte> bytes(pools_.page_bytes(), static_cast<std::byte>(value));
    pools_.write_page(id, bytes.data());
  }
  void fill_slot(int32_t id, int value) {
    std::vector<std::byte> bytes(pools_.slot_bytes(), static_cast<std::byte>(value));
    pools_.write_slot(id, bytes.data());
  }

  std::unique_ptr<Device> device_ = make_cpu_device();
  StatePools pools_ = StatePools::make(*device_, test::two_kinds_layout(), 6, 4, 3).value();
  SwapStore store_;
};

TEST_F(SwapStoreTest, ASequenceComesBackIntoOtherPagesAndAnotherSlot) {
  fill_page(1, 11);
  fill_page(4, 44);
  fill_slot(0, 7);
  store_.apply({SwapOp::Direction::kOut, 5, {4, 1}, 0}, pools_);
  const std::vector<std::byte> first(pools_.page_bytes(), std::byte{44}), second(pools_.page_bytes(), std::byte{11});
  fill_page(1, 99);
  fill_page(4, 99);
  fill_slot(0, 99);
  store_.apply({SwapOp::Direction::kIn, 5, {2, 0}, 2}, pools_);
  EXPECT_EQ(page(2), first);
  EXPECT_EQ(page(0), second);
  EXPECT_EQ(slot(2), std::vector<std::byte>(pools_.slot_bytes(), std::byte{7}));
  EXPECT_EQ(store_.sequences(), 0u);
}

TEST_F(SwapStoreTest, SeveralSequencesAreKeptApart) {
  fill_slot(0, 1);
  fill_slot(1, 2);
  store_.apply({SwapOp::Direction::kOut, 1, {}, 0}, pools_);
  store_.apply({SwapOp::Direction::kOut, 2, {}, 1}, pools_);
  EXPECT_EQ(store_.sequences(), 2u);
  store_.apply({SwapOp::Direction::kIn, 2, {}, 0}, pools_);
  store_.apply({SwapOp::Direction::kIn, 1, {}, 1}, pools_);
  EXPECT_EQ(slot(0)[0], std::byte{2});
  EXPECT_EQ(slot(1)[0], std::byte{1});
}

TEST_F(SwapStoreTest, ADroppedSequenceIsForgotten) {
  store_.apply({SwapOp::Direction::kOut, 1, {3}, 0}, pools_);
  store_.apply({SwapOp::Direction::kDrop, 1, {}, -1}, pools_);
  EXPECT_EQ(store_.sequences(), 0u);
}

using SwapStoreDeathTest = SwapStoreTest;

TEST_F(SwapStoreDeathTest, UnknownKeysAndOtherPageCountsAreABug) {
  EXPECT_DEATH(store_.apply({SwapOp::Direction::kIn, 1, {3}, 0}, pools_), "swap buffer 1");
  store_.apply({SwapOp::Direction::kOut, 1, {3}, 0}, pools_);
  EXPECT_DEATH(store_.apply({SwapOp::Direction::kOut, 1, {3}, 0}, pools_), "swap buffer 1");
  EXPECT_DEATH(store_.apply({SwapOp::Direction::kIn, 1, {3, 4}, 0}, pools_), "1 pages went out, 2 come in");
}

}  // namespace
}  // namespace hylas
