// PrefillPort: who is let in, what is handed on, and that no peer can hold up anybody else. The peers are played here.
#include "transfer/prefill_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "transfer/port_support.h"

namespace hylas {
namespace {

using test::ends;
using test::eventually;
using test::hear;
using test::say;
using ::testing::HasSubstr;

class PrefillPorts : public ::testing::Test {
 protected:
  using Port = PrefillPort;

  PrefillPorts() { open({.silence_us = test::kWaitUs}); }

  void open(PrefillPortOptions options) {
    options.address = {"127.0.0.1", 0};
    options.secret = "s";
    options.layout = layout;
    port = std::move(*Port::open(options, link, sender, [this](Port::Event event) { events.add(std::move(event)); }));
  }
  std::unique_ptr<TcpLink> stranger() {
    return std::move(*TcpLink::connect({"127.0.0.1", port->port()}, test::kWaitUs));
  }
  std::unique_ptr<ControlLink> connect(const std::string& secret = "s") {
    return std::make_unique<ControlLink>(stranger(), ControlSide::kDecode, secret);
  }
  std::unique_ptr<ControlLink> guest(const Hello& hello) {
    auto peer = connect();
    const Status met = peer->shake_hands(test::kWaitUs);
    EXPECT_TRUE(met.ok()) << met.error().message;
    say(*peer, hello);
    return peer;
  }
  Hello hello() const { return {kControlVersion, encode(layout), "memory"}; }
  // A peer that was welcomed, and waits until the port counts it.
  std::unique_ptr<ControlLink> welcomed() {
    const int32_t before = port->peers();
    auto peer = guest(hello());
    EXPECT_EQ(hear<Welcome>(*peer).layout, encode(layout));
    EXPECT_TRUE(eventually([&] { return port->peers() == before + 1; }));
    return peer;
  }

  const InstanceLayout layout = test::small_layout();
  const test::Memory memory = test::memory_of(layout, 1);
  test::FakeLink link;
  Sender sender{layout, test::starts_of(memory), link, [](const SentReport&) {}};
  test::Events<Port::Event> events;
  std::unique_ptr<Port> port;
};

TEST_F(PrefillPorts, AnAddressInUseIsAnError) {
  PrefillPortOptions options{.address = {"127.0.0.1", port->port()}, .layout = layout};
  const auto second = Port::open(options, link, sender, [](const Port::Event&) {});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("cannot listen"));
}

TEST_F(PrefillPorts, HandOnWhatAPeerSaysInItsOrder) {
  auto peer = welcomed();
  say(*peer, test::grant_of(1));
  say(*peer, Abort{7, 1});
  say(*peer, test::grant_of(2));
  say(*peer, Received{7, 2});
  const auto first = events.next<Port::Granted>();
  EXPECT_EQ(first.grant.epoch, 1u);
  EXPECT_EQ(first.grant.pages, test::grant_of(1).pages);
  EXPECT_EQ(events.next<Port::AbortWanted>().abort.epoch, 1u);
  EXPECT_EQ(events.next<Port::Granted>().grant.epoch, 2u);
  const auto received = events.next<Port::WasReceived>();
  EXPECT_EQ(received.received.epoch, 2u);
  EXPECT_EQ(received.peer, first.peer);
}

TEST_F(PrefillPorts, SendReachesThePeerThatIsMeant) {
  auto one = welcomed();
  say(*one, test::grant_of(1));
  const int32_t first = events.next<Port::Granted>().peer;
  auto two = welcomed();
  say(*two, test::grant_of(1));
  const int32_t second = events.next<Port::Granted>().peer;
  ASSERT_NE(first, second);
  port->send(second, Failed{7, 1, true, "to the second"});
  port->send(first, Done{7, 1, {{0, 3, 4}}, "to the first"});
  EXPECT_EQ(hear<Done>(*one).first, "to the first");
  EXPECT_EQ(hear<Failed>(*two).why, "to the second");
}

TEST_F(PrefillPorts, HeartbeatsComeUnasked) {
  auto peer = welcomed();
  const int64_t before_us = peer->heard_us();
  ASSERT_EQ(*peer->recv(test::kWaitUs), std::nullopt);
  EXPECT_GT(peer->heard_us(), before_us);
}

TEST_F(PrefillPorts, AnotherModelIsRefusedWithTheReason) {
  InstanceLayout other = layout;
  other.weights = "x";
  auto peer = guest({kControlVersion, encode(other), "memory"});
  EXPECT_THAT(hear<Refusal>(*peer).why, HasSubstr("same checkpoint"));
  EXPECT_TRUE(ends(*peer));
  EXPECT_EQ(port->peers(), 0);
}

TEST_F(PrefillPorts, ALayoutThatIsNoneIsRefused) {
  auto peer = guest({kControlVersion, "layout?", "memory"});
  hear<Refusal>(*peer);
  EXPECT_TRUE(ends(*peer));
}

TEST_F(PrefillPorts, AnotherVersionIsRefusedWithBothVersions) {
  auto peer = guest({kControlVersion + 1, "", ""});
  EXPECT_THAT(hear<Refusal>(*peer).why, HasSubstr("version 2 and the prefill instance version 1"));
  EXPECT_TRUE(ends(*peer));
}

// Another prefilling instance may reach it: no Refusal.
TEST_F(PrefillPorts, APeerWhoseMemoryCannotBeReachedIsSentAway) {
  auto peer = guest({kControlVersion, encode(layout), "nowhere"});
  EXPECT_TRUE(ends(*peer));
  EXPECT_EQ(port->peers(), 0);
}

TEST_F(PrefillPorts, AGrantThatTheLayoutDoesNotHoldFails) {
  auto peer = welcomed();
  const auto expect_failed = [&](auto change, const char* why) {
    Grant grant = test::grant_of(1);
    change(grant);
    say(*peer, grant);
    const auto failed = hear<Failed>(*peer);
    EXPECT_EQ(failed.epoch, grant.epoch);
    EXPECT_FALSE(failed.may_retry);
    EXPECT_THAT(failed.why, HasSubstr(why));
  };
  expect_failed([](Grant& grant) { grant.pages[1] = 8; }, "page 8 of 8");
  expect_failed([](Grant& grant) { grant.pages[1] = -1; }, "page -1 of 8");
  expect_failed([](Grant& grant) { grant.pages.pop_back(); }, "2 pages of 4 for 10 tokens");
  expect_failed([](Grant& grant) { grant.prompt_tokens = 0; }, "for 0 tokens");
  expect_failed([](Grant& grant) { grant.slot = 3; }, "slot 3 of 3");
  expect_failed([](Grant& grant) { grant.group = 1; }, "dp group 1 of 1");
  EXPECT_TRUE(events.empty());
}

TEST_F(PrefillPorts, APeerWhoseConnectionEndsIsGone) {
  auto peer = welcomed();
  say(*peer, test::grant_of(1));
  const int32_t id = events.next<Port::Granted>().peer;
  peer.reset();
  const auto gone = events.next<Port::PeerGone>();
  EXPECT_EQ(gone.peer, id);
  EXPECT_EQ(link.disconnected, 1);
  EXPECT_EQ(port->peers(), 0);
  port->send(id, Aborted{7, 1});  // nothing happens
  EXPECT_TRUE(events.empty());
}

// The peer may use its memory again when it sees the end.
TEST_F(PrefillPorts, ThePeersMemoryIsLetGoBeforeItsConnectionEnds) {
  auto peer = welcomed();
  say(*peer, Welcome{});  // not for it to say
  EXPECT_TRUE(ends(*peer));
  EXPECT_EQ(link.disconnected, 1);
  EXPECT_THAT(events.next<Port::PeerGone>().why, HasSubstr("message 1"));
}

TEST_F(PrefillPorts, StrangersHarmNobody) {
  std::vector<std::unique_ptr<TcpLink>> silent;
  for (int i = 0; i < 80; ++i) silent.push_back(stranger());  // more than may be in the doorway
  auto wrong = connect("wrong");
  EXPECT_FALSE(wrong->shake_hands(test::kWaitUs).ok());
  auto garbage = stranger();
  ASSERT_TRUE(garbage->send('x', std::string(1000, 'x')).ok());
  auto speechless = connect();
  ASSERT_TRUE(speechless->shake_hands(test::kWaitUs).ok());  // says no Hello
  auto peer = welcomed();
  say(*peer, test::grant_of(1));
  EXPECT_EQ(events.next<Port::Granted>().grant.epoch, 1u);
  EXPECT_FALSE(garbage->recv(test::kWaitUs).ok());
  EXPECT_FALSE(silent[0]->recv(2'000'000).ok());  // the eldest made room
  EXPECT_TRUE(ends(*speechless));
}

TEST_F(PrefillPorts, ASilentPeerIsNotThereAndComesBack) {
  open({.silence_us = 200'000});
  auto peer = guest(hello());
  hear<Welcome>(*peer);
  EXPECT_TRUE(eventually([&] { return port->peers() == 0; }));
  EXPECT_TRUE(events.empty());
  say(*peer, test::grant_of(1));
  EXPECT_EQ(events.next<Port::Granted>().grant.epoch, 1u);
  EXPECT_TRUE(eventually([&] { return peer->send_heartbeat().ok() && port->peers() == 1; }));
}

TEST_F(PrefillPorts, APeerThatReadsNothingHoldsUpNobody) {
  auto stopped = welcomed();
  say(*stopped, test::grant_of(1));
  const int32_t id = events.next<Port::Granted>().peer;
  const Done large{7, 1, {}, std::string(size_t{1} << 20, 'x')};
  for (int i = 0; i < 32; ++i) port->send(id, large);  // more than sockets hold
  auto peer = welcomed();
  say(*peer, test::grant_of(2));
  const int32_t other = events.next<Port::Granted>().peer;
  port->send(other, Aborted{7, 2});
  EXPECT_EQ(hear<Aborted>(*peer).epoch, 2u);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(hear<Done>(*stopped).first.size(), large.first.size());
}

TEST_F(PrefillPorts, APeerForWhomTooMuchWaitsIsGivenUp) {
  auto stopped = welcomed();
  say(*stopped, test::grant_of(1));
  const int32_t id = events.next<Port::Granted>().peer;
  const Done large{7, 1, {}, std::string(size_t{8} << 20, 'x')};
  for (int i = 0; i < 16; ++i) port->send(id, large);
  EXPECT_EQ(events.next<Port::PeerGone>().peer, id);
}

TEST_F(PrefillPorts, AreDestroyedAtAnyTime) {
  auto peer = welcomed();
  auto silent = stranger();
  auto half = connect();
  std::atomic<bool> destroyed = false;
  auto met = std::async(std::launch::async, [&] {
    while (!destroyed) {
      if (!peer->send(encode(test::grant_of(3))).ok()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return half->shake_hands(test::kWaitUs).ok();
  });
  events.next<Port::Granted>();
  port.reset();
  destroyed = true;
  const int total = events.total();
  EXPECT_EQ(link.disconnected, 1);
  met.get();
  EXPECT_TRUE(ends(*peer));
  EXPECT_EQ(events.total(), total);
}

}  // namespace
}  // namespace hylas
