#include "transfer/sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <thread>

#include "support/held_link.h"
#include "support/instances.h"

namespace hylas {
namespace {

using test::HeldLink;
using test::InstancePools;
using test::LayoutKind;

InstanceLayout layout(const ParallelSizes& sizes) {
  return test::layout_of({.model = {LayoutKind::kDense, 5}, .sizes = sizes});
}

// A decoding instance over the local link.
struct Decode {
  explicit Decode(const ParallelSizes& sizes) : state(layout(sizes)) {
    const std::vector<Region> regions = pools.regions();
    HYLAS_CHECK(link->open(regions).ok());
    description = link->invite().value();
  }
  InstanceLayout state;
  InstancePools pools{state};
  std::unique_ptr<Link> link = make_local_link();
  std::string description;
};

class Reports {
 public:
  Sender::OnSent on_sent() {
    return [this](SentReport report) {
      std::lock_guard lock(mutex_);
      reports_.push_back(std::move(report));
      changed_.notify_all();
    };
  }
  std::vector<SentReport> wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return reports_.size() >= count; }));
    EXPECT_EQ(reports_.size(), count);
    return reports_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<SentReport> reports_;
};

const TransferPart kPages{.from_pages = {5, 0, 6}, .to_pages = {2, 3, 0}};
const TransferPart kLast{.first_page = 3, .from_pages = {1}, .to_pages = {6}, .from_slot = 1, .to_slot = 2};
const std::vector<int32_t> kFromPages = {5, 0, 6, 1}, kToPages = {2, 3, 0, 6};

class SenderOf : public testing::Test {
 protected:
  SenderOf() { pools_.for_heads(1, kFromPages, 1, test::fill); }

  Reports reports_;
  InstanceLayout state_ = layout({.tp = 2, .pp = 2, .dp = 2});
  InstancePools pools_{state_};
  std::unique_ptr<Link> link_ = make_local_link();
  Sender sender_{state_, pools_.memory(), *link_, reports_.on_sent()};
};

// Each rank hands its parts over by itself, as the chunks of a prompt end.
TEST_F(SenderOf, PartsOfEveryRankMakeTheSequenceThere) {
  Decode decode({.tp = 4});
  sender_.add_peer(7, decode.state, link_->connect(decode.description).value());
  {
    std::vector<std::jthread> ranks;
    for (int32_t rank = 0; rank < state_.sizes.world(); ++rank) {
      ranks.emplace_back([&, rank] {
        for (const TransferPart& part : {kPages, kLast}) {
          sender_.send(rank, {.transfer = 42, .peer = 7, .group = 1, .to_group = 0, .part = part});
        }
      });
    }
  }
  std::vector<uint64_t> bytes(4), sums(4);
  for (const SentReport& report : reports_.wait_for(8)) {
    ASSERT_TRUE(report.result.status.ok()) << report.result.status.error().message;
    EXPECT_EQ(report.transfer, 42u);
    bytes[report.rank] += report.result.bytes;
    sums[report.rank] += report.result.sum;
  }
  EXPECT_EQ(bytes[0], 0u) << "the first dp group has nothing to do with it";
  EXPECT_EQ(bytes[2], 0u);
  const TransferPart whole{.to_pages = kToPages, .to_slot = 2};
  for (const int32_t rank : {1, 3}) {
    const TransferPlan plan = transfer_plan(state_, rank, decode.state, 0);
    EXPECT_EQ(bytes[rank], bytes_of(plan, whole));
    EXPECT_EQ(sums[rank], landed_sum(plan, whole, decode.pools.memory()));
  }
  int wrong = 0;
  decode.pools.for_heads(0, kToPages, 2,
                         [&](std::span<std::byte> head, uint64_t name) { wrong += test::holds(head, name) ? 0 : 1; });
  EXPECT_EQ(wrong, 0);
}

TEST_F(SenderOf, SeveralPeersWithLayoutsOfTheirOwn) {
  Decode one({}), two({.tp = 2, .dp = 2});
  sender_.add_peer(1, one.state, link_->connect(one.description).value());
  sender_.add_peer(2, two.state, link_->connect(two.description).value());
  for (int32_t rank : {1, 3}) {
    for (const TransferPart& part : {kPages, kLast}) {
      sender_.send(rank, {.transfer = 1, .peer = 1, .group = 1, .to_group = 0, .part = part});
      sender_.send(rank, {.transfer = 2, .peer = 2, .group = 1, .to_group = 1, .part = part});
    }
  }
  reports_.wait_for(8);
  int wrong = 0;
  const auto check = [&](std::span<std::byte> head, uint64_t name) { wrong += test::holds(head, name) ? 0 : 1; };
  one.pools.for_heads(0, kToPages, 2, check);
  two.pools.for_heads(1, kToPages, 2, check);
  EXPECT_EQ(wrong, 0);
}

TEST_F(SenderOf, APeerThatIsGoneFailsWhatIsSentToIt) {
  Decode decode({});
  sender_.add_peer(7, decode.state, link_->connect(decode.description).value());
  sender_.remove_peer(7, "silent");
  sender_.remove_peer(7, "twice does nothing");
  sender_.send(1, {.transfer = 3, .peer = 7, .group = 1, .part = kPages});
  sender_.send(1, {.transfer = 4, .peer = 8, .group = 1, .part = kPages});
  for (const SentReport& report : reports_.wait_for(2)) {
    ASSERT_FALSE(report.result.status.ok());
    EXPECT_EQ(report.result.status.error().code, ErrorCode::kIo);
  }
}

TEST_F(SenderOf, IdsOutOfRangeAreNotWritten) {
  Decode decode({});
  sender_.add_peer(7, decode.state, link_->connect(decode.description).value());
  const auto with = [](auto change) {
    TransferPart part = kLast;
    change(part);
    return part;
  };
  const std::vector<TransferPart> bad = {
      with([](TransferPart& p) { p.to_pages = {7}; }), with([](TransferPart& p) { p.to_pages = {-1}; }),
      with([](TransferPart& p) { p.to_pages = {}; }),  with([](TransferPart& p) { p.from_pages = {99}; }),
      with([](TransferPart& p) { p.to_slot = 3; }),    with([](TransferPart& p) { p.to_slot = -1; })};
  for (const TransferPart& part : bad) sender_.send(1, {.peer = 7, .group = 1, .part = part});
  sender_.send(1, {.peer = 7, .group = 1, .to_group = 1, .part = kLast});
  for (const SentReport& report : reports_.wait_for(bad.size() + 1)) {
    ASSERT_FALSE(report.result.status.ok());
    EXPECT_EQ(report.result.status.error().code, ErrorCode::kInvalid);
  }
  for (int32_t rank = 0; rank < decode.state.sizes.world(); ++rank) {
    const std::span memory(decode.pools.memory(rank), decode.pools.rank(rank).memory_bytes());
    EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](std::byte byte) { return byte == std::byte{0}; }));
  }
}

TEST(Sender, ItsEndFailsAndReportsWhatIsUnderWay) {
  const InstanceLayout state = layout({});
  const InstancePools pools(state);
  HeldLink link;
  Reports reports;
  {
    Sender sender(state, pools.memory(), link, reports.on_sent());
    sender.add_peer(3, state, 30);
    sender.send(0, {.transfer = 9, .peer = 3, .part = kPages});
    ASSERT_EQ(link.held(), 1u);
  }
  EXPECT_THAT(link.disconnected(), testing::ElementsAre(30));
  EXPECT_FALSE(reports.wait_for(1)[0].result.status.ok());
}

}  // namespace
}  // namespace hylas
