#include "cache/state_pools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <set>

namespace hylas {
namespace {

constexpr int32_t kPages = 5, kPageSize = 4, kSlots = 3;

StateKind kv(DType dtype, std::vector<int32_t> layers) {
  return {.name = "kv",
          .scope = StateScope::kPerToken,
          .layers = std::move(layers),
          .segments = {{"k", 2, 3}, {"v", 2, 5}},
          .dtype = dtype};
}
StateKind conv(DType dtype, std::vector<int32_t> layers) {
  return {.name = "conv",
          .scope = StateScope::kPerSequence,
          .layers = std::move(layers),
          .segments = {{"q", 2, 3}, {"k", 2, 3}, {"v", 4, 3}},
          .dtype = dtype};
}
StateKind delta(DType dtype, std::vector<int32_t> layers) {
  return {.name = "delta",
          .scope = StateScope::kPerSequence,
          .layers = std::move(layers),
          .segments = {{"s", 4, 6}},
          .dtype = dtype};
}

struct Named {
  const char* name;
  StateLayout layout;
};

void PrintTo(const Named& named, std::ostream* out) { *out << named.name; }

class EveryLayout : public testing::TestWithParam<Named> {
 protected:
  EveryLayout()
      : layout_(GetParam().layout), pools_(StatePools::make(*device_, layout_, kPages, kPageSize, kSlots).value()) {}

  // Every piece that the views name: (first byte, bytes) of each page and slot.
  struct Piece {
    std::byte* begin;
    size_t bytes;
    StateScope scope;
    int32_t id;
  };
  std::vector<Piece> pieces() const {
    std::vector<Piece> pieces;
    for (const StateKind& kind : layout_.kinds) {
      for (int32_t layer : kind.layers) {
        int segments = kind.scope == StateScope::kPerToken ? static_cast<int>(kind.segments.size()) : 1;
        for (int segment = 0; segment < segments; ++segment) {
          Tensor view = kind.scope == StateScope::kPerToken ? pools_.pages_of(kind, layer, segment)
                                                            : pools_.slots_of(kind, layer);
          EXPECT_EQ(view.dtype, kind.dtype);
          size_t bytes = view.row_elements() * dtype_bytes(kind.dtype);
          for (int32_t id = 0; id < view.dim(0); ++id) {
            pieces.push_back({static_cast<std::byte*>(view.data) + bytes * id, bytes, kind.scope, id});
          }
        }
      }
    }
    return pieces;
  }
  // Fills every piece with its own number, so that a stray write shows.
  void fill() {
    int number = 0;
    for (const Piece& piece : pieces()) std::memset(piece.begin, ++number, piece.bytes);
  }
  std::vector<std::vector<std::byte>> snapshot() const {
    std::vector<std::vector<std::byte>> all;
    for (const Piece& piece : pieces()) all.emplace_back(piece.begin, piece.begin + piece.bytes);
    return all;
  }

  std::unique_ptr<Device> device_ = make_cpu_device();
  StateLayout layout_;
  StatePools pools_;
};

TEST_P(EveryLayout, PiecesDoNotOverlapAndAddUp) {
  std::set<std::pair<std::byte*, size_t>> sorted;
  size_t page_bytes = 0, slot_bytes = 0;
  for (const Piece& piece : pieces()) {
    sorted.insert({piece.begin, piece.bytes});
    (piece.scope == StateScope::kPerToken ? page_bytes : slot_bytes) += piece.bytes;
  }
  std::byte* end = nullptr;
  for (auto [begin, bytes] : sorted) {
    EXPECT_GE(begin, end) << "two pieces share bytes";
    end = begin + bytes;
  }
  EXPECT_EQ(page_bytes, pools_.page_bytes() * kPages);
  EXPECT_EQ(slot_bytes, pools_.slot_bytes() * kSlots);
}

// What another instance works out from the layout and the counts is where the bytes are.
TEST_P(EveryLayout, PoolBlocksTellWhereEveryPieceLies) {
  const PoolBlocks blocks = pool_blocks(layout_, kPages, kPageSize, kSlots);
  EXPECT_EQ(blocks.bytes, pools_.memory_bytes());
  const std::vector<Piece> expected = pieces();
  auto piece = expected.begin();
  for (size_t k = 0; k < layout_.kinds.size(); ++k) {
    const StateKind& kind = layout_.kinds[k];
    for (size_t i = 0; i < blocks.kinds[k].size(); ++i) {
      const PoolBlock& block = blocks.kinds[k][i];
      EXPECT_EQ(block.offset % 64, 0u);
      for (int32_t id = 0; id < (kind.scope == StateScope::kPerToken ? kPages : kSlots); ++id, ++piece) {
        ASSERT_NE(piece, expected.end());
        EXPECT_EQ(static_cast<std::byte*>(pools_.memory()) + block.offset + block.stride * id, piece->begin);
        EXPECT_EQ(block.stride, piece->bytes);
      }
    }
  }
  EXPECT_EQ(piece, expected.end());
}

TEST(PoolBlocks, ALayerOfAPerTokenKindHasOneBlockForEachSegment) {
  const StateKind pages = kv(DType::kF32, {3, 7}), slots = conv(DType::kF32, {0, 1});
  EXPECT_EQ(block_index(pages, 1, 0), 2u);
  EXPECT_EQ(block_index(pages, 1, 1), 3u);
  EXPECT_EQ(block_index(slots, 1, 0), 1u);
  EXPECT_EQ(block_index(slots, 1, 2), 1u) << "the segments of a slot lie side by side";
}

TEST_P(EveryLayout, StartsZeroed) {
  for (const std::vector<std::byte>& piece : snapshot()) {
    EXPECT_THAT(piece, testing::Each(std::byte{0}));
  }
}

TEST_P(EveryLayout, CopySlotTouchesOnlyTheTarget) {
  fill();
  std::vector<std::vector<std::byte>> before = snapshot();
  pools_.copy_slot(2, 0);
  std::vector<std::vector<std::byte>> after = snapshot();
  std::vector<Piece> all = pieces();
  for (size_t i = 0; i < all.size(); ++i) {
    bool target = all[i].scope == StateScope::kPerSequence && all[i].id == 0;
    EXPECT_EQ(after[i], target ? before[i + 2] : before[i]) << "piece " << i;
  }
}

TEST_P(EveryLayout, PageTravelsWholeToAnotherPage) {
  fill();
  std::vector<std::vector<std::byte>> before = snapshot();
  std::vector<std::byte> host(pools_.page_bytes() + 1, std::byte{0xEE});
  pools_.read_page(1, host.data());
  EXPECT_EQ(host.back(), std::byte{0xEE}) << "wrote past page_bytes()";
  EXPECT_EQ(snapshot(), before) << "reading changes nothing";
  pools_.write_page(4, host.data());
  std::vector<std::vector<std::byte>> after = snapshot();
  std::vector<Piece> all = pieces();
  for (size_t i = 0; i < all.size(); ++i) {
    bool target = all[i].scope == StateScope::kPerToken && all[i].id == 4;
    EXPECT_EQ(after[i], target ? before[i - 3] : before[i]) << "piece " << i;
  }
}

TEST_P(EveryLayout, SlotTravelsWholeToAnotherSlot) {
  fill();
  std::vector<std::vector<std::byte>> before = snapshot();
  std::vector<std::byte> host(pools_.slot_bytes() + 1, std::byte{0xEE});
  pools_.read_slot(0, host.data());
  EXPECT_EQ(host.back(), std::byte{0xEE}) << "wrote past slot_bytes()";
  pools_.write_slot(1, host.data());
  std::vector<std::vector<std::byte>> after = snapshot();
  std::vector<Piece> all = pieces();
  for (size_t i = 0; i < all.size(); ++i) {
    bool target = all[i].scope == StateScope::kPerSequence && all[i].id == 1;
    EXPECT_EQ(after[i], target ? before[i - 1] : before[i]) << "piece " << i;
  }
}

// From pools with other counts: only what is named changes.
TEST_P(EveryLayout, PagesAndASlotOfOtherPoolsTravelWhole) {
  StatePools host = StatePools::make(*device_, layout_, 4, kPageSize, 2).value();
  std::vector<std::byte> page(pools_.page_bytes()), slot(pools_.slot_bytes());
  const auto fill_with = [](std::vector<std::byte>& bytes, int number) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 + number);
  };
  for (int32_t id = 0; id < 4; ++id) {
    fill_with(page, id);
    host.write_page(id, page.data());
  }
  fill_with(slot, 50);
  host.write_slot(1, slot.data());
  fill();
  const std::vector<std::vector<std::byte>> before = snapshot();
  const std::vector<int32_t> from = {3, 0, 1, 2}, to = {2, 3, 4, 0};  // two of them neighbours on both sides
  pools_.begin_pages_from(host, from, to);
  pools_.begin_slot_from(host, 1, 2);
  for (size_t i = 0; i < from.size(); ++i) {
    std::vector<std::byte> expected(page.size());
    fill_with(expected, from[i]);
    pools_.read_page(to[i], page.data());
    EXPECT_EQ(page, expected) << "page " << to[i];
  }
  std::vector<std::byte> landed(slot.size());
  pools_.read_slot(2, landed.data());
  EXPECT_EQ(landed, slot);
  const std::vector<std::vector<std::byte>> after = snapshot();
  const std::vector<Piece> all = pieces();
  for (size_t i = 0; i < all.size(); ++i) {
    const bool named = all[i].id == 2 || (all[i].scope == StateScope::kPerToken && all[i].id != 1);
    if (!named) {
      EXPECT_EQ(after[i], before[i]) << "piece " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, EveryLayout,
    testing::Values(Named{"hybrid",
                          {{kv(DType::kBF16, {3, 7}), delta(DType::kF32, {0, 1, 2, 4, 5, 6}),
                            conv(DType::kBF16, {0, 1, 2, 4, 5, 6})}}},
                    Named{"fp8_kv_half_state",
                          {{kv(DType::kF8E4M3, {3}), delta(DType::kF16, {0, 1, 2}), conv(DType::kF32, {0, 1, 2})}}},
                    Named{"attention_only", {{kv(DType::kF32, {0, 5, 9})}}},
                    Named{"delta_only", {{delta(DType::kBF16, {12}), conv(DType::kBF16, {12})}}}, Named{"nothing", {}}),
    [](const testing::TestParamInfo<Named>& info) { return info.param.name; });

TEST(StatePools, PagesAreHeadMajor) {
  std::unique_ptr<Device> device = make_cpu_device();
  StateLayout layout{{kv(DType::kF32, {3})}};
  StatePools pools = StatePools::make(*device, layout, kPages, kPageSize, kSlots).value();
  Tensor v = pools.pages_of(layout.kinds[0], 3, 1);
  EXPECT_THAT(v.shape, testing::ElementsAre(kPages, 2, kPageSize, 5));
  EXPECT_TRUE(v.contiguous());
}

TEST(StatePools, SaysHowMuchItNeeds) {
  std::unique_ptr<Device> device = make_cpu_device();
  StateLayout layout{{kv(DType::kF32, {3})}};
  Result<StatePools> pools = StatePools::make(*device, layout, int64_t{1} << 40, 64, 2);
  ASSERT_FALSE(pools.ok());
  EXPECT_EQ(pools.error().code, ErrorCode::kExhausted);
  EXPECT_THAT(pools.error().message, testing::HasSubstr("pages of 64 tokens"));
}

TEST(StatePoolsDeathTest, ForeignLayersAreABug) {
  std::unique_ptr<Device> device = make_cpu_device();
  StateLayout layout{{kv(DType::kF32, {3}), delta(DType::kF32, {0})}};
  StatePools pools = StatePools::make(*device, layout, kPages, kPageSize, kSlots).value();
  EXPECT_DEATH(pools.pages_of(layout.kinds[0], 0, 0), "layer 0 has no kv on this rank");
  EXPECT_DEATH(pools.slots_of(layout.kinds[1], 3), "layer 3 has no delta on this rank");
}

}  // namespace
}  // namespace hylas
