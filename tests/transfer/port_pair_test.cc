// Both ports, sender and link together: state goes from four ranks to two, in parts, and is right.
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "cache/pool_blocks.h"
#include "transfer/decode_port.h"
#include "transfer/port_support.h"
#include "transfer/prefill_port.h"

namespace hylas {
namespace {

using test::grant_of;

constexpr int32_t kRanks = 4;

struct PrefillSide {
  explicit PrefillSide(InstanceLayout of) : layout(std::move(of)) {
    port = std::move(*PrefillPort::open({.address = {"127.0.0.1", 0}, .secret = "s", .layout = layout}, *link, sender,
                                        [this](PrefillPort::Event event) { events.add(std::move(event)); }));
  }
  // What the ranks computed goes out in two parts; the answer is what they sent in all.
  std::vector<SourceSum> send(int32_t peer, const Grant& grant) {
    const std::vector<int32_t> mine = {1, 4, 6}, theirs = grant.pages;
    const SendOp parts[] = {
        {.transfer = 1,
         .peer = peer,
         .part = {.first_page = 0, .from_pages = {1, 4}, .to_pages = {theirs[0], theirs[1]}}},
        {.transfer = 1,
         .peer = peer,
         .part = {.first_page = 2, .from_pages = {6}, .to_pages = {theirs[2]}, .from_slot = 2, .to_slot = grant.slot}}};
    for (const SendOp& part : parts) {
      for (int32_t rank = 0; rank < kRanks; ++rank) sender.send(rank, part);
    }
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return reports == 2 * kRanks; });
    return sums;
  }
  void add(const SentReport& report) {
    std::lock_guard lock(mutex);
    EXPECT_TRUE(report.result.status.ok()) << report.result.status.error().message;
    sums[report.rank].bytes += report.result.bytes;
    sums[report.rank].sum += report.result.sum;
    ++reports;
    changed.notify_all();
  }

  const InstanceLayout layout;
  test::Memory memory = test::memory_of(layout, 4);
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<SourceSum> sums = {{0}, {1}, {2}, {3}};  // guarded by mutex
  int reports = 0;                                     // guarded by mutex
  test::Events<PrefillPort::Event> events;
  std::unique_ptr<Link> link = make_local_link();
  Sender sender{layout, test::starts_of(memory), *link, [this](const SentReport& report) { add(report); }};
  std::unique_ptr<PrefillPort> port;
};

struct DecodeSide {
  explicit DecodeSide(InstanceLayout of) : layout(std::move(of)) {
    std::vector<Region> regions;
    for (auto& bytes : memory) regions.push_back({bytes.data(), bytes.size()});
    EXPECT_TRUE(link->open(regions).ok());
    port = DecodePort::make({.secret = "s", .layout = layout, .memory = test::starts_of(memory), .link = link.get()},
                            [this](DecodePort::Event event) { events.add(std::move(event)); });
  }

  const InstanceLayout layout;
  test::Memory memory = test::memory_of(layout, 5);
  std::unique_ptr<Link> link = make_local_link();
  test::Events<DecodePort::Event> events;
  std::unique_ptr<DecodePort> port;
};

class PortPair : public ::testing::Test {
 protected:
  PrefillPort::Granted grant(uint64_t epoch) {
    decode.port->grant({"127.0.0.1", prefill.port->port()}, grant_of(epoch));
    return prefill.events.next<PrefillPort::Granted>();
  }

  PrefillSide prefill{test::small_layout({.tp = 2, .pp = 2})};
  DecodeSide decode{test::small_layout({.tp = 2})};
};

TEST_F(PortPair, StateGoesOver) {
  const auto granted = grant(1);
  prefill.port->send(granted.peer, Done{7, 1, prefill.send(granted.peer, granted.grant), "token"});
  const auto landed = decode.events.next<DecodePort::Landed>();
  EXPECT_TRUE(landed.status.ok()) << landed.status.error().message;
  EXPECT_EQ(landed.first, "token");
  decode.port->received(1);
  EXPECT_EQ(prefill.events.next<PrefillPort::WasReceived>().received.epoch, 1u);
}

TEST_F(PortPair, WhatIsDamagedOnTheWayIsNoticed) {
  const auto granted = grant(1);
  auto sums = prefill.send(granted.peer, granted.grant);
  const PoolBlocks blocks = pool_blocks(decode.layout.ranks[1], decode.layout.pages, 4, decode.layout.slots);
  const PoolBlock& k = blocks.kinds[0][0];
  decode.memory[1][k.offset + k.stride * static_cast<size_t>(granted.grant.pages[2])] ^= 1;
  prefill.port->send(granted.peer, Done{7, 1, sums, "token"});
  EXPECT_FALSE(decode.events.next<DecodePort::Landed>().status.ok());
}

TEST_F(PortPair, AnAbortIsAnswered) {
  grant(1);
  decode.port->abort(1);
  const auto wanted = prefill.events.next<PrefillPort::AbortWanted>();
  prefill.port->send(wanted.peer, Aborted{7, 1});
  EXPECT_TRUE(decode.events.next<DecodePort::Closed>().may_retry);
}

TEST_F(PortPair, EachSeesTheOtherOneGo) {
  grant(1);
  prefill.port.reset();
  EXPECT_EQ(decode.events.next<DecodePort::Stalled>().epoch, 1u);
  EXPECT_TRUE(decode.events.next<DecodePort::Closed>().may_retry);
}

TEST_F(PortPair, ADecodeInstanceThatGoesIsGone) {
  const auto granted = grant(1);
  decode.port.reset();
  EXPECT_EQ(prefill.events.next<PrefillPort::PeerGone>().peer, granted.peer);
  EXPECT_EQ(prefill.port->peers(), 0);
  EXPECT_TRUE(decode.events.empty());
}

// Heartbeats go both ways: nobody stalls while there is nothing to say.
TEST_F(PortPair, APairThatHasNothingToSayStaysConnected) {
  const auto granted = grant(1);
  const int64_t end_us = now_us() + 4 * kHeartbeatUs;
  while (now_us() < end_us) {
    ASSERT_EQ(prefill.port->peers(), 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(decode.events.empty());
  prefill.port->send(granted.peer, Failed{7, 1, true, "no"});
  decode.events.next<DecodePort::Closed>();
}

}  // namespace
}  // namespace hylas
