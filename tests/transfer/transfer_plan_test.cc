// A sequence's state moves from any parallel layout to any other: every head of every layer to where it belongs.
#include "transfer/transfer_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <numeric>

#include "support/instances.h"

namespace hylas {
namespace {

using test::InstanceOf;
using test::InstancePools;
using test::layout_of;
using test::LayoutKind;

constexpr std::byte kUntouched{0xEE};

const TransferPart kWhole{
    .first_page = 0, .from_pages = {5, 0, 6, 1}, .to_pages = {2, 3, 0, 6}, .from_slot = 1, .to_slot = 2};

// The source's memory, filled once: what the group's sequence keeps in kWhole's pages and slot; the rest is other
// bytes.
struct Source {
  InstanceLayout layout;
  InstancePools pools{layout};
  int32_t group = layout.sizes.dp - 1;

  explicit Source(const InstanceOf& instance) : layout(layout_of(instance)) {
    for (int32_t rank = 0; rank < layout.sizes.world(); ++rank) {
      std::memset(pools.memory(rank), 0x11, pools.rank(rank).memory_bytes());
    }
    pools.for_heads(group, kWhole.from_pages, kWhole.from_slot, test::fill);
  }
};

struct Target {
  InstanceLayout layout;
  InstancePools pools{layout};
  int32_t group = layout.sizes.dp - 1;
  std::vector<std::vector<uint8_t>> times_written;  // [rank][byte]

  explicit Target(const InstanceOf& instance) : layout(layout_of(instance)) {
    for (int32_t rank = 0; rank < layout.sizes.world(); ++rank) {
      std::memset(pools.memory(rank), static_cast<int>(kUntouched), pools.rank(rank).memory_bytes());
      times_written.emplace_back(pools.rank(rank).memory_bytes());
    }
  }

  void receive(std::span<const Write> writes) {
    for (const Write& write : writes) {
      ASSERT_LE(write.offset + write.bytes, times_written[write.region].size());
      std::memcpy(pools.memory(write.region) + write.offset, write.from, write.bytes);
      for (uint64_t i = 0; i < write.bytes; ++i) ++times_written[write.region][write.offset + i];
    }
  }
};

uint64_t sum_of(std::span<const Write> writes) {
  uint64_t sum = 0;
  for (const Write& write : writes) sum += write_sum(write.from, write.bytes, write.identity);
  return sum;
}

// Sends everything, each rank its share.
void move(const Source& source, Target& target) {
  for (int32_t rank = 0; rank < source.layout.sizes.world(); ++rank) {
    if (place_of(source.layout.sizes, rank).dp_group != source.group) continue;
    const TransferPlan plan = transfer_plan(source.layout, rank, target.layout, target.group);
    target.receive(writes_of(plan, kWhole, source.pools.memory(rank)));
  }
}

// Every byte of the sequence is what its kind, layer, segment, head and position say, and was written once; every other
// byte is as it was.
void expect_arrived(Target& target) {
  int wrong = 0;
  target.pools.for_heads(target.group, kWhole.to_pages, kWhole.to_slot, [&](std::span<std::byte> head, uint64_t name) {
    wrong += test::holds(head, name) ? 0 : 1;
    std::fill(head.begin(), head.end(), kUntouched);
  });
  EXPECT_EQ(wrong, 0) << "heads at wrong places";
  uint64_t written = 0, touched = 0, twice = 0;
  for (int32_t rank = 0; rank < target.layout.sizes.world(); ++rank) {
    for (size_t i = 0; i < target.times_written[rank].size(); ++i) {
      const int times = target.times_written[rank][i];
      written += times > 0 ? 1 : 0;
      twice += times > 1 ? 1 : 0;
      touched += target.pools.memory(rank)[i] == kUntouched ? 0 : 1;
    }
  }
  EXPECT_EQ(twice, 0u) << "bytes written more than once";
  EXPECT_EQ(touched, 0u) << "bytes outside the sequence's pages and slot";
  uint64_t expected = 0;
  for (int32_t rank = 0; rank < target.layout.sizes.world(); ++rank) {
    if (place_of(target.layout.sizes, rank).dp_group != target.group) continue;
    expected += target.pools.rank(rank).page_bytes() * kWhole.to_pages.size() + target.pools.rank(rank).slot_bytes();
  }
  EXPECT_EQ(written, expected);
}

class TransferPlanOf : public testing::TestWithParam<InstanceOf> {};

TEST_P(TransferPlanOf, EveryLayoutMapsOntoEveryOther) {
  const auto with = [](const ParallelSizes& sizes) {
    InstanceOf instance = GetParam();
    instance.sizes = sizes;
    return instance;
  };
  for (const ParallelSizes& from : test::every_layout()) {
    const Source source(with(from));
    for (const ParallelSizes& to : test::every_layout()) {
      Target target(with(to));
      ASSERT_TRUE(check_pair(source.layout, target.layout).ok());
      move(source, target);
      expect_arrived(target);
      ASSERT_FALSE(HasFailure()) << "from " << describe(from) << "\nto " << describe(to);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TransferPlanOf,
                         testing::Values(InstanceOf{.model = {LayoutKind::kDense, 8}},
                                         InstanceOf{.model = {LayoutKind::kMoe, 5}},
                                         InstanceOf{.model = {LayoutKind::kDense, 8},
                                                    .act = DType::kF32,
                                                    .kv = DType::kF8E4M3,
                                                    .state = DType::kF16,
                                                    .with_mtp = true}),
                         [](const auto& info) {
                           return info.param.model.name() + (info.param.with_mtp ? "_with_mtp_fp8_kv_half_state" : "");
                         });

// The model has 2 KV heads of 32, 4 key and 8 value heads of 32; pages are of 4 tokens.
struct Pair {
  InstanceLayout from, to;
  Pair(const ParallelSizes& prefill, const ParallelSizes& decode, int layers = 8)
      : from(layout_of({.model = {LayoutKind::kDense, layers}, .sizes = prefill})),
        to(layout_of({.model = {LayoutKind::kDense, layers}, .sizes = decode})) {}
  TransferPlan plan(int32_t rank, int32_t to_group = 0) const { return transfer_plan(from, rank, to, to_group); }
};

uint64_t page_bytes(const TransferPlan& plan) {
  return std::accumulate(plan.pages.begin(), plan.pages.end(), uint64_t{0},
                         [](uint64_t sum, const CopyRun& run) { return sum + run.bytes; });
}

TEST(TransferPlan, EqualLayoutsMoveLayersWhole) {
  const TransferPlan plan = Pair({}, {}).plan(0);
  EXPECT_EQ(plan.pages.size(), 2 * 2u) << "k and v of two layers";
  EXPECT_EQ(plan.slot.size(), 6 * 2u) << "recurrent and conv state of six layers, q|k|v in one";
  for (const CopyRun& run : plan.pages) EXPECT_EQ(run.bytes, run.from_stride) << "so that neighbouring pages are one";
}

// bf16, 3 inputs per channel: heads of q and k are 192 bytes, of v too; a rank of two has 2, 2 and 4 of them.
TEST(TransferPlan, ConvStateIsCutSegmentBySegment) {
  const TransferPlan plan = Pair({.tp = 2}, {}).plan(1);
  std::vector<std::pair<uint64_t, uint64_t>> places;  // of layer 0's conv state: from, to; relative to its blocks
  const PoolBlocks from = pool_blocks(Pair({.tp = 2}, {}).from.ranks[1], 7, 4, 3);
  const PoolBlocks to = pool_blocks(Pair({.tp = 2}, {}).to.ranks[0], 7, 4, 3);
  for (const CopyRun& run : plan.slot) {
    const PoolBlock &mine = from.kinds[2][0], &theirs = to.kinds[2][0];
    if (run.from_offset < mine.offset || run.from_offset >= mine.offset + mine.stride) continue;
    places.emplace_back(run.from_offset - mine.offset, run.to_offset - theirs.offset);
  }
  const uint64_t head = 32 * 3 * 2;
  EXPECT_THAT(places, testing::ElementsAre(testing::Pair(0, 2 * head), testing::Pair(2 * head, (4 + 2) * head),
                                           testing::Pair(4 * head, (8 + 4) * head)));
}

TEST(TransferPlan, ReplicatedHeadsAreSentByTheirHoldersInTurn) {
  for (const ParallelSizes& to : {ParallelSizes{}, {.tp = 2}, {.tp = 4}, {.tp = 4, .dp = 2}, {.pp = 2}}) {
    const Pair pair({.tp = 4}, to);
    std::vector<uint64_t> bytes;
    for (int32_t rank = 0; rank < 4; ++rank) bytes.push_back(page_bytes(pair.plan(rank)));
    EXPECT_THAT(bytes, testing::Each(bytes[0])) << describe(to);
    EXPECT_GT(bytes[0], 0u);
  }
}

TEST(TransferPlan, AStageSendsItsOwnLayersOnly) {
  const Pair pair({.pp = 4}, {.tp = 2}, 5);
  EXPECT_TRUE(pair.plan(3).pages.empty()) << "the last of five layers is a linear one";
  EXPECT_FALSE(pair.plan(3).slot.empty());
  uint64_t all = 0;
  for (int32_t rank = 0; rank < 4; ++rank) all += page_bytes(pair.plan(rank));
  EXPECT_EQ(all, 2u * 2 * 32 * 4 * 2) << "k and v, two heads of 32, 4 tokens, bf16";
}

TEST(TransferPlan, APartWithoutASlotMovesPagesOnly) {
  const Pair pair({}, {});
  const TransferPlan plan = pair.plan(0);
  const TransferPart pages{.from_pages = {1, 2}, .to_pages = {3, 4}};
  const TransferPart slot{.first_page = 2, .from_slot = 0, .to_slot = 1};
  EXPECT_EQ(writes_of(plan, pages, nullptr).size(), 2 * plan.pages.size());
  EXPECT_EQ(writes_of(plan, slot, nullptr).size(), plan.slot.size());
  EXPECT_EQ(bytes_of(plan, pages), 2 * pair.from.ranks[0].bytes_per_token() * 4u);
  EXPECT_EQ(bytes_of(plan, slot), static_cast<uint64_t>(pair.from.ranks[0].bytes_per_sequence()));
}

// The receiver sums over the whole sequence what the sender summed part by part.
class Sums : public testing::Test {
 protected:
  Sums() { move(source_, target_); }

  TransferPlan plan_of(int32_t rank) const {
    return transfer_plan(source_.layout, rank, target_.layout, target_.group);
  }
  // Of everything that arrived, over the sending ranks; the receiver does not know the pages there.
  uint64_t landed(TransferPart part = kWhole) const {
    part.from_pages.clear();
    const std::vector<const void*> memory = target_.pools.memory();
    uint64_t sum = 0;
    for (int32_t rank = 0; rank < source_.layout.sizes.world(); ++rank) sum += landed_sum(plan_of(rank), part, memory);
    return sum;
  }

  Source source_{InstanceOf{.model = {LayoutKind::kDense, 8}, .sizes = {.tp = 4, .pp = 2}}};
  Target target_{InstanceOf{.model = {LayoutKind::kDense, 8}, .sizes = {.tp = 2}}};
};

TEST_F(Sums, OfTheSenderInPartsAndOfTheReceiverInOneAreEqual) {
  const TransferPart first{.from_pages = {5, 0, 6}, .to_pages = {2, 3, 0}};
  const TransferPart last{.first_page = 3, .from_pages = {1}, .to_pages = {6}, .from_slot = 1, .to_slot = 2};
  const std::vector<const void*> memory = target_.pools.memory();
  for (int32_t rank = 0; rank < source_.layout.sizes.world(); ++rank) {
    const TransferPlan plan = plan_of(rank);
    const void* mine = source_.pools.memory(rank);
    EXPECT_EQ(sum_of(writes_of(plan, first, mine)) + sum_of(writes_of(plan, last, mine)),
              landed_sum(plan, kWhole, memory));
    EXPECT_EQ(bytes_of(plan, first) + bytes_of(plan, last), bytes_of(plan, kWhole));
  }
}

TEST_F(Sums, NoticeOneFlippedBitAnywhere) {
  const uint64_t right = landed();
  int heads = 0;
  target_.pools.for_heads(target_.group, kWhole.to_pages, kWhole.to_slot, [&](std::span<std::byte> head, uint64_t) {
    if (++heads % 97 != 0) return;  // some of them
    std::byte& byte = head[head.size() / 2];
    byte ^= std::byte{4};
    EXPECT_NE(landed(), right);
    byte ^= std::byte{4};
  });
  EXPECT_GT(heads, 97);
  EXPECT_EQ(landed(), right);
}

TEST_F(Sums, NoticePagesInTheWrongOrderAndAnotherSlot) {
  TransferPart swapped = kWhole;
  std::swap(swapped.to_pages[1], swapped.to_pages[2]);
  EXPECT_NE(landed(swapped), landed());
  TransferPart other = kWhole;
  other.to_slot = 0;
  EXPECT_NE(landed(other), landed());
  TransferPart moved = kWhole;
  moved.first_page = 1;
  EXPECT_NE(landed(moved), landed());
}

}  // namespace
}  // namespace hylas
