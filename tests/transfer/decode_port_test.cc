// DecodePort: each grant ends with exactly one Landed or Closed, whatever the prefilling instance does. That one is
// played here, so that it can be late, silent and wrong.
#include "transfer/decode_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/clock.h"
#include "transfer/port_support.h"

namespace hylas {
namespace {

using test::ends;
using test::eventually;
using test::grant_of;
using test::hear;
using test::say;
using ::testing::HasSubstr;
using Port = DecodePort;
using Link = std::unique_ptr<ControlLink>;

constexpr int64_t kSilenceUs = 300'000, kConnectUs = 1'000'000;  // where their end is what is tested

// A prefilling instance that says only what the test makes it say, and is silent otherwise.
struct FakePrefill {
  HostPort address() const { return {"127.0.0.1", listener.port()}; }
  // The next connection, before anything was said.
  std::unique_ptr<TcpLink> accept() { return listener.accept(test::kWaitUs); }
  // One that has said Hello.
  Link greeted(const std::string& secret = "s") {
    auto link = std::make_unique<ControlLink>(accept(), ControlSide::kPrefill, secret);
    const Status met = link->shake_hands(test::kWaitUs);
    EXPECT_TRUE(met.ok()) << met.error().message;
    hello = hear<Hello>(*link);
    return link;
  }
  Link welcomed() {
    Link link = greeted();
    say(*link, Welcome{encode(layout)});
    return link;
  }

  TcpListener listener = std::move(*TcpListener::listen({"127.0.0.1", 0}));
  InstanceLayout layout = test::small_layout({.tp = 2});
  Hello hello;
};

class DecodePorts : public ::testing::Test {
 protected:
  DecodePorts() { make(test::kWaitUs, test::kWaitUs); }

  void make(int64_t silence_us, int64_t connect_us) {
    port.reset();
    port = Port::make({.secret = "s",
                       .silence_us = silence_us,
                       .connect_us = connect_us,
                       .layout = layout,
                       .memory = test::starts_of(memory),
                       .link = &fake},
                      [this](Port::Event event) { events.add(std::move(event)); });
  }
  Done done_of(const Grant& grant) const {
    return {grant.room, grant.epoch, test::sums_of(prefill.layout, layout, grant, memory), "first"};
  }
  // Grants epoch 1 and answers as far as Welcome.
  Link granted() {
    port->grant(prefill.address(), grant_of(1));
    Link link = prefill.welcomed();
    EXPECT_EQ(hear<Grant>(*link).epoch, 1u);
    return link;
  }
  Port::Closed expect_closed(uint64_t epoch, bool may_retry, const char* why) {
    const auto closed = events.next<Port::Closed>();
    EXPECT_EQ(closed.epoch, epoch);
    EXPECT_EQ(closed.may_retry, may_retry) << closed.why;
    EXPECT_THAT(closed.why, HasSubstr(why));
    return closed;
  }
  void expect_stalled(uint64_t epoch, const char* why) {
    const auto stalled = events.next<Port::Stalled>();
    EXPECT_EQ(stalled.epoch, epoch);
    EXPECT_THAT(stalled.why, HasSubstr(why));
  }
  void expect_landed(uint64_t epoch) {
    const auto landed = events.next<Port::Landed>();
    EXPECT_EQ(landed.epoch, epoch);
    EXPECT_TRUE(landed.status.ok()) << landed.status.error().message;
  }

  const InstanceLayout layout = test::small_layout();
  test::Memory memory = test::memory_of(layout, 2);
  FakePrefill prefill;
  test::FakeLink fake;
  test::Events<Port::Event> events;
  std::unique_ptr<Port> port;
};

TEST_F(DecodePorts, AGrantIsWrittenCheckedAndReceived) {
  port->grant(prefill.address(), grant_of(1));
  Link link = prefill.welcomed();
  EXPECT_EQ(prefill.hello.version, kControlVersion);
  EXPECT_EQ(prefill.hello.layout, encode(layout));
  EXPECT_EQ(prefill.hello.link, "memory");
  EXPECT_EQ(encode(hear<Grant>(*link)), encode(grant_of(1)));
  say(*link, done_of(grant_of(1)));
  const auto landed = events.next<Port::Landed>();
  EXPECT_EQ(landed.epoch, 1u);
  EXPECT_EQ(landed.first, "first");
  EXPECT_TRUE(landed.status.ok());
  port->received(1);
  const auto received = hear<Received>(*link);
  EXPECT_EQ(received.room, 7u);
  EXPECT_EQ(received.epoch, 1u);
}

TEST_F(DecodePorts, AConnectionIsUsedAgain) {
  Link link = granted();
  port->grant(prefill.address(), grant_of(2, 8));
  EXPECT_EQ(hear<Grant>(*link).epoch, 2u);
  say(*link, done_of(grant_of(2, 8)));
  say(*link, done_of(grant_of(1)));
  expect_landed(2);
  expect_landed(1);
}

TEST_F(DecodePorts, AFlippedBitIsNoticed) {
  Link link = granted();
  const Done done = done_of(grant_of(1));
  memory[0][0] ^= 1;  // page 0 of the first KV layer is one of those granted
  say(*link, done);
  const auto landed = events.next<Port::Landed>();
  ASSERT_FALSE(landed.status.ok());
  EXPECT_THAT(landed.status.error().message, HasSubstr("damaged"));
  memory[0][0] ^= 1;
  port->grant(prefill.address(), grant_of(2));  // prefilled again
  EXPECT_EQ(hear<Grant>(*link).epoch, 2u);
  say(*link, done_of(grant_of(2)));
  expect_landed(2);
}

TEST_F(DecodePorts, AMissingSourceIsNoticed) {
  Link link = granted();
  Done done = done_of(grant_of(1));
  done.sources.pop_back();
  say(*link, done);
  EXPECT_FALSE(events.next<Port::Landed>().status.ok());
}

TEST_F(DecodePorts, FailedCloses) {
  Link link = granted();
  port->grant(prefill.address(), grant_of(2, 8));
  say(*link, Failed{7, 1, true, "no memory"});
  say(*link, Failed{8, 2, false, "no such prompt"});
  expect_closed(1, true, "no memory");
  expect_closed(2, false, "no such prompt");
}

TEST_F(DecodePorts, AbortIsAnsweredAndCloses) {
  Link link = granted();
  port->abort(1);
  EXPECT_EQ(hear<Abort>(*link).epoch, 1u);
  EXPECT_TRUE(events.empty());  // the instance may still write
  say(*link, Aborted{7, 1});
  expect_closed(1, true, "aborted");
}

TEST_F(DecodePorts, AnAbortThatCrossesDoneStillLands) {
  Link link = granted();
  port->abort(1);
  say(*link, done_of(grant_of(1)));
  expect_landed(1);
  hear<Abort>(*link);
  say(*link, Aborted{7, 1});
  port->grant(prefill.address(), grant_of(2));
  hear<Grant>(*link);
  EXPECT_TRUE(events.empty());
}

TEST_F(DecodePorts, WhatLandedCanBeGivenUp) {
  Link link = granted();
  say(*link, done_of(grant_of(1)));
  expect_landed(1);
  port->abort(1);
  EXPECT_EQ(hear<Abort>(*link).epoch, 1u);
}

TEST_F(DecodePorts, ARefusalIsPassedOn) {
  port->grant(prefill.address(), grant_of(1));
  port->grant(prefill.address(), grant_of(2, 8));
  Link link = prefill.greeted();
  say(*link, Refusal{"page sizes differ"});
  expect_closed(1, false, "page sizes differ");
  expect_closed(2, false, "page sizes differ");
}

TEST_F(DecodePorts, AWelcomeOfAnotherLayoutIsNone) {
  prefill.layout.page_size = 8;
  port->grant(prefill.address(), grant_of(1));
  Link link = prefill.welcomed();
  expect_closed(1, false, "pages of 8 tokens");
}

TEST_F(DecodePorts, NobodyThereIsClosed) {
  HostPort nobody;
  {
    FakePrefill gone;
    nobody = gone.address();
  }
  port->grant(nobody, grant_of(1));
  expect_closed(1, true, "refused");
}

TEST_F(DecodePorts, AnInstanceWithAnotherSecretIsClosed) {
  port->grant(prefill.address(), grant_of(1));
  ControlLink link(prefill.accept(), ControlSide::kPrefill, "other");
  EXPECT_FALSE(link.shake_hands(test::kWaitUs).ok());
  link.stop();
  expect_closed(1, true, "secret");
}

TEST_F(DecodePorts, ASilentOneIsGivenUpInTime) {
  make(test::kWaitUs, kConnectUs);
  port->grant(prefill.address(), grant_of(1));
  auto silent = prefill.accept();
  expect_closed(1, true, "no sign of life");
  port->grant(prefill.address(), grant_of(2));
  Link speechless = prefill.greeted();
  expect_closed(2, true, "");
}

// One byte at a time keeps the connection alive, but not for longer than the whole may take.
TEST_F(DecodePorts, ASlowOneIsGivenUpInTime) {
  make(test::kWaitUs, kConnectUs);
  port->grant(prefill.address(), grant_of(1));
  auto slow = prefill.accept();
  std::jthread drip([&](std::stop_token stop) {
    while (!stop.stop_requested() && slow->send('n', "").ok()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  expect_closed(1, true, "");
}

TEST_F(DecodePorts, AnInstanceThatDiesClosesItsEpochsAndIsFoundAgain) {
  Link link = granted();
  port->grant(prefill.address(), grant_of(2, 8));
  hear<Grant>(*link);
  fake.is_writing = true;
  link.reset();
  expect_stalled(1, "closed");
  expect_stalled(2, "closed");
  EXPECT_TRUE(eventually([&] { return fake.revoked > 1; }));
  EXPECT_TRUE(events.empty()) << "it still writes";
  fake.is_writing = false;
  expect_closed(1, true, "closed");
  expect_closed(2, true, "closed");
  port->grant(prefill.address(), grant_of(3));
  Link again = prefill.welcomed();
  hear<Grant>(*again);
  say(*again, done_of(grant_of(3)));
  expect_landed(3);
}

TEST_F(DecodePorts, WhatHasArrivedWhenTheInstanceDiesLands) {
  Link link = granted();
  say(*link, done_of(grant_of(1)));
  link.reset();
  expect_landed(1);
  port->received(1);
  port->abort(1);
  EXPECT_TRUE(events.empty());
}

TEST_F(DecodePorts, ASilentInstanceStallsItsEpochsOnceAndMayComeBack) {
  make(kSilenceUs, test::kWaitUs);
  Link link = granted();
  const auto stalled = events.next<Port::Stalled>();
  EXPECT_EQ(stalled.epoch, 1u);
  EXPECT_THAT(stalled.why, HasSubstr("no sign of life"));
  port->grant(prefill.address(), grant_of(2, 8));
  EXPECT_EQ(events.next<Port::Stalled>().epoch, 2u);
  hear<Grant>(*link);
  say(*link, done_of(grant_of(1)));
  expect_landed(1);
  say(*link, Failed{8, 2, true, "too late"});
  expect_closed(2, true, "too late");
}

TEST_F(DecodePorts, AnAbortWaitsForASilentInstance) {
  make(kSilenceUs, test::kWaitUs);
  Link link = granted();
  events.next<Port::Stalled>();
  port->abort(1);
  EXPECT_TRUE(events.empty());
  EXPECT_EQ(hear<Abort>(*link).epoch, 1u);
  say(*link, Aborted{7, 1});
  expect_closed(1, true, "aborted");
}

TEST_F(DecodePorts, ASilentInstanceThatDiesClosesWhatWasStalled) {
  make(kSilenceUs, test::kWaitUs);
  Link link = granted();
  events.next<Port::Stalled>();
  link.reset();
  expect_closed(1, true, "closed");
}

TEST_F(DecodePorts, HeartbeatsKeepAnInstanceAlive) {
  constexpr int64_t kPatienceUs = 2'000'000;
  make(kPatienceUs, test::kWaitUs);
  Link link = granted();
  const int64_t end_us = now_us() + 2 * kPatienceUs;
  while (now_us() < end_us) {
    ASSERT_TRUE(link->send_heartbeat().ok());
    ASSERT_TRUE(link->recv(kPatienceUs / 50).ok());
  }
  say(*link, done_of(grant_of(1)));
  expect_landed(1);
}

TEST_F(DecodePorts, LateAndRepeatedAnswersAreIgnored) {
  Link link = granted();
  say(*link, done_of(grant_of(9)));    // never granted
  say(*link, Failed{6, 1, true, ""});  // of another room
  say(*link, done_of(grant_of(1)));
  say(*link, done_of(grant_of(1)));
  say(*link, Failed{7, 1, true, ""});
  say(*link, Aborted{7, 1});
  expect_landed(1);
  port->grant(prefill.address(), grant_of(2));
  say(*link, done_of(grant_of(1)));
  say(*link, done_of(grant_of(2)));
  expect_landed(2);
  EXPECT_TRUE(events.empty());
}

TEST_F(DecodePorts, WhatOnlyDecodingInstancesSayEndsTheConnection) {
  Link link = granted();
  say(*link, grant_of(1));
  expect_stalled(1, "message 3");
  expect_closed(1, true, "message 3");
  EXPECT_TRUE(ends(*link));
}

TEST_F(DecodePorts, GarbageEndsTheConnection) {
  Link link = granted();
  ASSERT_TRUE(link->send("garbage").ok());
  expect_stalled(1, "control message");
  expect_closed(1, true, "control message");
}

TEST_F(DecodePorts, TwoInstancesDoNotSpeakForEachOther) {
  FakePrefill second;
  Link link = granted();
  port->grant(second.address(), grant_of(2, 8));
  Link other = second.welcomed();
  hear<Grant>(*other);
  say(*other, done_of(grant_of(1)));
  say(*other, Failed{7, 1, true, "not its epoch"});
  say(*other, done_of(grant_of(2, 8)));
  expect_landed(2);
  other.reset();
  say(*link, done_of(grant_of(1)));
  expect_landed(1);
}

// After any number of steps of both sides.
TEST_F(DecodePorts, AreDestroyedAtAnyTime) {
  constexpr uint32_t kSeed = 6;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 40; ++round) {
    FakePrefill instance;
    std::jthread plays([&, steps = random() % 5] {
      auto tcp = instance.listener.accept(500'000);
      if (!tcp || steps == 0) return;
      ControlLink link(std::move(tcp), ControlSide::kPrefill, "s");
      if (steps == 1 || !link.shake_hands(500'000).ok() || steps == 2) return;
      (void)link.send(encode(Welcome{encode(instance.layout)}));
      if (steps == 3) return;
      for (uint64_t epoch = 1; epoch < 5; ++epoch) (void)link.send(encode(done_of(grant_of(epoch, epoch))));
      while (link.recv(100'000).ok()) {
      }
    });
    for (uint64_t epoch = 1; epoch < 5; ++epoch) port->grant(instance.address(), grant_of(epoch, epoch));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    port.reset();
    const int total = events.total();
    plays.join();
    ASSERT_EQ(events.total(), total) << "round " << round << ", seed " << kSeed;
    make(test::kWaitUs, test::kWaitUs);
  }
}

}  // namespace
}  // namespace hylas
