// The way from a device's memory to a link: nothing is read too early, no block is used twice, and every put ends once.
#include "transfer/stager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "support/held_link.h"
#include "support/instances.h"
#include "support/late_device.h"
#include "transfer/link_fixture.h"
#include "transfer/sender.h"

namespace hylas {
namespace {

using test::HeldLink;
using test::LateDevice;
using test::Results;

constexpr size_t kWriteBytes = 1000;

class StagerOf : public testing::Test {
 protected:
  // Blocks of two writes.
  std::unique_ptr<Stager> make(int32_t blocks, Link& link) {
    return Stager::make(device_, link, {.block_bytes = 2 * kWriteBytes, .blocks = blocks}).value();
  }
  // Of pieces of the memory.
  std::vector<Write> writes(const std::vector<size_t>& pieces) const {
    std::vector<Write> all;
    for (const size_t piece : pieces) {
      all.push_back({.from = memory_.data() + piece * kWriteBytes,
                     .region = 0,
                     .offset = piece * kWriteBytes,
                     .bytes = kWriteBytes,
                     .identity = piece});
    }
    return all;
  }

  LateDevice device_;
  std::vector<std::byte> memory_ = test::random_bytes(10 * kWriteBytes, 1);
  Results results_;
};

TEST_F(StagerOf, WhatIsSentIsWhatTheDeviceHadBegunToMake) {
  HeldLink link;
  const auto stager = make(2, link);
  device_.launch([&] { std::fill_n(memory_.begin(), kWriteBytes, std::byte{7}); });
  stager->put(5, writes({0}), results_.add());
  device_.launch([] { FAIL() << "nobody has to wait for what comes later"; });
  ASSERT_TRUE(link.wait_for_held(1));
  HeldLink::Held put = link.take();
  EXPECT_EQ(put.peer, 5);
  const std::span sent(static_cast<const std::byte*>(put.writes.at(0).from), kWriteBytes);
  EXPECT_THAT(sent, testing::Each(std::byte{7}));
  std::fill_n(memory_.begin(), kWriteBytes, std::byte{9});
  EXPECT_THAT(sent, testing::Each(std::byte{7})) << "the link reads memory that the device may change";
  put.done({.status = {}, .bytes = kWriteBytes, .sum = 3});
  const PutResult result = results_.all().at(0);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.bytes, kWriteBytes);
  EXPECT_EQ(result.sum, 3u);
}

TEST_F(StagerOf, PutsWaitWhileAllBlocksAreUnderWay) {
  HeldLink link;
  const auto stager = make(2, link);
  for (size_t piece = 0; piece < 4; ++piece) stager->put(0, writes({piece}), results_.add());
  ASSERT_TRUE(link.wait_for_held(2));
  for (size_t piece = 0; piece < 4; ++piece) {
    EXPECT_LE(link.held(), 2u);
    HeldLink::Held put = link.take();
    ASSERT_EQ(put.writes.size(), 1u);
    EXPECT_EQ(put.writes[0].identity, piece) << "one after the other";
    EXPECT_EQ(std::memcmp(put.writes[0].from, memory_.data() + piece * kWriteBytes, kWriteBytes), 0);
    put.done({});
    if (piece < 2) {
      ASSERT_TRUE(link.wait_for_held(2));
    }
  }
  EXPECT_EQ(results_.failed(), 0u);
}

TEST_F(StagerOf, APartLargerThanABlockGoesInSeveralPutsAndIsReportedOnce) {
  HeldLink link;
  const auto stager = make(1, link);
  stager->put(0, writes({9, 0, 1, 5, 2}), results_.add());
  std::vector<uint64_t> identities;
  for (uint64_t put_number = 1; put_number <= 3; ++put_number) {
    ASSERT_TRUE(link.wait_for_held(1));
    HeldLink::Held put = link.take();
    for (const Write& write : put.writes) {
      identities.push_back(write.identity);
      EXPECT_EQ(write.offset, write.identity * kWriteBytes);
      EXPECT_EQ(std::memcmp(write.from, memory_.data() + write.offset, kWriteBytes), 0);
    }
    put.done({.status = {}, .bytes = put.writes.size() * kWriteBytes, .sum = put_number << 62});
  }
  EXPECT_THAT(identities, testing::UnorderedElementsAre(0, 1, 2, 5, 9));
  const PutResult result = results_.all().at(0);
  EXPECT_EQ(result.bytes, 5 * kWriteBytes);
  EXPECT_EQ(result.sum, uint64_t{6} << 62) << "sums wrap around";
}

TEST_F(StagerOf, OneOfSeveralPutsThatFailsFailsThePart) {
  HeldLink link;
  const auto stager = make(2, link);
  stager->put(0, writes({0, 1, 2}), results_.add());
  ASSERT_TRUE(link.wait_for_held(2));
  link.take().done({.status = error(ErrorCode::kIo, "torn")});
  link.take().done({.status = {}, .bytes = kWriteBytes, .sum = 1});
  EXPECT_EQ(results_.all().at(0).status.error().message, "torn");
}

TEST_F(StagerOf, APeerThatGoesFailsWhatIsHeldAndWhatWaits) {
  HeldLink link;
  const auto stager = make(1, link);
  for (size_t piece = 0; piece < 5; ++piece) stager->put(0, writes({piece}), results_.add());
  ASSERT_TRUE(link.wait_for_held(1));
  link.disconnect(0, "gone");
  EXPECT_EQ(results_.failed(), 5u);
  EXPECT_EQ(link.puts(), 5);
}

TEST_F(StagerOf, ItsEndWaitsForEveryPut) {
  HeldLink link;
  auto stager = make(1, link);
  for (size_t piece = 0; piece < 3; ++piece) stager->put(0, writes({piece}), results_.add());
  ASSERT_TRUE(link.wait_for_held(1));
  std::jthread ends([&] { stager.reset(); });
  for (int put = 0; put < 3; ++put) {
    ASSERT_TRUE(link.wait_for_held(1));
    link.take().done({});
  }
  ends.join();
  EXPECT_EQ(results_.failed(), 0u);
}

TEST_F(StagerOf, NothingToSendIsThePutOfTheLink) {
  HeldLink link;
  const auto stager = make(1, link);
  stager->put(4, {}, results_.add());
  ASSERT_EQ(link.held(), 1u);
  link.take().done({});
  EXPECT_EQ(results_.failed(), 0u);
}

// Each rank of the sender has blocks for one write only, so that everything waits for everything.
TEST(StagedSender, WhatArrivesIsWhatOneWithoutStagersSends) {
  const InstanceLayout from = test::layout_of({.model = {test::LayoutKind::kDense, 5}, .sizes = {.tp = 2, .pp = 2}});
  const InstanceLayout to = test::layout_of({.model = {test::LayoutKind::kDense, 5}, .sizes = {.tp = 4}});
  const test::InstancePools source(from), sink(to);
  const std::vector<int32_t> from_pages = {5, 0, 6, 1}, to_pages = {2, 3, 0, 6};
  source.for_heads(0, from_pages, 1, test::fill);
  const std::unique_ptr<Link> link = make_local_link();
  ASSERT_TRUE(link->open(sink.regions()).ok());
  LateDevice device;
  std::vector<std::unique_ptr<Stager>> stagers;
  for (const StateLayout& rank : from.ranks) {
    const StagerOptions options{.block_bytes = largest_write_bytes(rank, from.page_size), .blocks = 1};
    stagers.push_back(Stager::make(device, *link, options).value());
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int32_t, PutResult> sent;
  {
    Sender sender(
        from, source.memory(), *link,
        [&](const SentReport& report) {
          std::lock_guard lock(mutex);
          ASSERT_TRUE(report.result.status.ok()) << report.result.status.error().message;
          sent[report.rank].bytes += report.result.bytes;
          sent[report.rank].sum += report.result.sum;
          changed.notify_all();
        },
        std::move(stagers));
    sender.add_peer(1, to, link->connect(link->invite().value()).value());
    const TransferPart part{.from_pages = from_pages, .to_pages = to_pages, .from_slot = 1, .to_slot = 2};
    for (int32_t rank = 0; rank < from.sizes.world(); ++rank)
      sender.send(rank, {.transfer = 1, .peer = 1, .part = part});
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return sent.size() == from.ranks.size(); }));
  }
  const TransferPart whole{.to_pages = to_pages, .to_slot = 2};
  for (int32_t rank = 0; rank < from.sizes.world(); ++rank) {
    const TransferPlan plan = transfer_plan(from, rank, to, 0);
    EXPECT_EQ(sent[rank].bytes, bytes_of(plan, whole));
    EXPECT_EQ(sent[rank].sum, landed_sum(plan, whole, sink.memory()));
  }
  int wrong = 0;
  sink.for_heads(0, to_pages, 2,
                 [&](std::span<std::byte> head, uint64_t name) { wrong += test::holds(head, name) ? 0 : 1; });
  EXPECT_EQ(wrong, 0);
}

TEST(StagedSender, ItsEndFailsWhatIsHeldAndWhatWaitsForABlock) {
  const InstanceLayout state = test::layout_of({.model = {test::LayoutKind::kDense, 5}});
  const test::InstancePools pools(state);
  HeldLink link;
  LateDevice device;
  std::vector<std::unique_ptr<Stager>> stagers;
  const StagerOptions options{.block_bytes = largest_write_bytes(state.ranks[0], state.page_size), .blocks = 1};
  stagers.push_back(Stager::make(device, link, options).value());
  std::atomic<int> failed = 0;
  {
    Sender sender(
        state, pools.memory(), link, [&](const SentReport& report) { failed += report.result.status.ok() ? 0 : 1; },
        std::move(stagers));
    sender.add_peer(3, state, 30);
    for (int i = 0; i < 3; ++i) sender.send(0, {.peer = 3, .part = {.from_pages = {1, 2}, .to_pages = {0, 1}}});
    ASSERT_TRUE(link.wait_for_held(1));
  }
  EXPECT_THAT(link.disconnected(), testing::ElementsAre(30));
  EXPECT_EQ(failed, 3);
}

}  // namespace
}  // namespace hylas
