// ControlLink: two sides that know the same secret talk; nobody else is listened to.
#include "transfer/control_link.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "base/clock.h"
#include "transfer/port_support.h"

namespace hylas {
namespace {

using ::testing::HasSubstr;
using Tcp = std::unique_ptr<TcpLink>;

std::pair<Tcp, Tcp> connected() {
  auto listener = TcpListener::listen({"127.0.0.1", 0});
  auto out = TcpLink::connect({"127.0.0.1", listener->port()}, test::kWaitUs);
  return {std::move(*out), listener->accept(test::kWaitUs)};
}

// Both ends, and the frames between them in the hands of the test.
struct Wire {
  Wire(const std::string& decode_secret, const std::string& prefill_secret) {
    auto [d, between_d] = connected();
    auto [between_p, p] = connected();
    to_decode = std::move(between_d);
    to_prefill = std::move(between_p);
    decode = std::make_unique<ControlLink>(std::move(d), ControlSide::kDecode, decode_secret);
    prefill = std::make_unique<ControlLink>(std::move(p), ControlSide::kPrefill, prefill_secret);
  }
  static Frame pass(TcpLink& from, TcpLink& to) {
    auto frame = from.recv(test::kWaitUs);
    if (!frame.ok()) return ADD_FAILURE() << frame.error().message, Frame{};
    EXPECT_TRUE(to.send(frame->type, frame->bytes).ok());
    return *frame;
  }
  void shake_hands() {
    auto d = std::async(std::launch::async, [&] { return decode->shake_hands(test::kWaitUs); });
    auto p = std::async(std::launch::async, [&] { return prefill->shake_hands(test::kWaitUs); });
    for (int frame = 0; frame < 2; ++frame) {
      pass(*to_decode, *to_prefill);
      pass(*to_prefill, *to_decode);
    }
    ASSERT_TRUE(d.get().ok());
    ASSERT_TRUE(p.get().ok());
  }
  Frame caught_message() {
    EXPECT_TRUE(decode->send("hello").ok());
    return *to_decode->recv(test::kWaitUs);
  }
  void expect_refused(const Frame& frame, const char* why) {
    ASSERT_TRUE(to_prefill->send(frame.type, frame.bytes).ok());
    const auto heard = prefill->recv(test::kWaitUs);
    ASSERT_FALSE(heard.ok());
    EXPECT_THAT(heard.error().message, HasSubstr(why));
  }

  Tcp to_decode, to_prefill;
  std::unique_ptr<ControlLink> decode, prefill;
};

// The answers of both sides to each other.
std::pair<Status, Status> meet(const std::string& decode_secret, const std::string& prefill_secret) {
  auto [d, p] = connected();
  ControlLink decode(std::move(d), ControlSide::kDecode, decode_secret);
  ControlLink prefill(std::move(p), ControlSide::kPrefill, prefill_secret);
  const auto try_out = [](ControlLink& link) {
    Status status = link.shake_hands(test::kWaitUs);
    if (!status.ok()) link.stop();
    return status;
  };
  auto at_decode = std::async(std::launch::async, [&] { return try_out(decode); });
  const Status at_prefill = try_out(prefill);
  return {at_decode.get(), at_prefill};
}

TEST(ControlLinks, MessagesGoBothWaysInTheirOrder) {
  auto [d, p] = connected();
  ControlLink decode(std::move(d), ControlSide::kDecode, "s"), prefill(std::move(p), ControlSide::kPrefill, "s");
  auto met = std::async(std::launch::async, [&] { return decode.shake_hands(test::kWaitUs); });
  ASSERT_TRUE(prefill.shake_hands(test::kWaitUs).ok());
  ASSERT_TRUE(met.get().ok());
  ASSERT_TRUE(decode.send("one").ok());
  ASSERT_TRUE(decode.send(std::string(100'000, 'x')).ok());
  ASSERT_TRUE(decode.send("").ok());
  ASSERT_TRUE(prefill.send("back").ok());
  EXPECT_EQ(*prefill.recv(test::kWaitUs), "one");
  EXPECT_EQ(*prefill.recv(test::kWaitUs), std::string(100'000, 'x'));
  EXPECT_EQ(*prefill.recv(test::kWaitUs), "");
  EXPECT_EQ(*decode.recv(test::kWaitUs), "back");
}

TEST(ControlLinks, AHeartbeatIsHeardAndIsNoMessage) {
  Wire wire("s", "s");
  wire.shake_hands();
  const int64_t before_us = wire.prefill->heard_us();
  ASSERT_TRUE(wire.decode->send_heartbeat().ok());
  Wire::pass(*wire.to_decode, *wire.to_prefill);
  EXPECT_EQ(*wire.prefill->recv(test::kWaitUs), std::nullopt);
  EXPECT_GT(wire.prefill->heard_us(), before_us);
}

TEST(ControlLinks, TheSameSecretIsNeeded) {
  for (const auto& [d, p] : {std::pair{"right", "wrong"}, {"", "right"}, {"right", ""}}) {
    const auto [at_decode, at_prefill] = meet(d, p);
    ASSERT_FALSE(at_decode.ok());
    ASSERT_FALSE(at_prefill.ok());
    EXPECT_THAT(at_decode.error().message, HasSubstr("secret"));
    EXPECT_THAT(at_prefill.error().message, HasSubstr("secret"));
  }
  EXPECT_TRUE(meet("right", "right").first.ok());
  EXPECT_TRUE(meet("", "").second.ok());
}

// What a stranger learns without the secret: nothing that was made with it.
TEST(ControlLinks, TheListeningSideProvesNothingToAStranger) {
  auto [stranger, p] = connected();
  ControlLink prefill(std::move(p), ControlSide::kPrefill, "s");
  auto met = std::async(std::launch::async, [&] { return prefill.shake_hands(test::kWaitUs); });
  ASSERT_TRUE(stranger->send('n', "hylas pd 1:0123456789abcdef").ok());
  ASSERT_TRUE(stranger->recv(test::kWaitUs).ok());  // the nonce
  ASSERT_TRUE(stranger->send('p', std::string(24, 'x')).ok());
  EXPECT_FALSE(met.get().ok());
  prefill.stop();
  EXPECT_FALSE(stranger->recv(test::kWaitUs).ok());
}

TEST(ControlLinks, OtherProgramsAreRefused) {
  auto listener = TcpListener::listen({"127.0.0.1", 0});
  const int scanner = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(listener->port())};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(scanner, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::string request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
  ASSERT_EQ(send(scanner, request.data(), request.size(), 0), std::ssize(request));
  ControlLink prefill(listener->accept(test::kWaitUs), ControlSide::kPrefill, "");
  const Status met = prefill.shake_hands(test::kWaitUs);
  ASSERT_FALSE(met.ok());
  EXPECT_THAT(met.error().message, HasSubstr("announces"));
  close(scanner);
}

TEST(ControlLinks, StrangersMayAnnounceLittle) {
  auto [stranger, p] = connected();
  ControlLink prefill(std::move(p), ControlSide::kPrefill, "");
  ASSERT_TRUE(stranger->send('n', std::string(kStrangerBytesMax + 1, 'x')).ok());
  const Status met = prefill.shake_hands(test::kWaitUs);
  ASSERT_FALSE(met.ok());
  EXPECT_THAT(met.error().message, HasSubstr("announces"));
}

TEST(ControlLinks, ASilentPeerIsRefused) {
  auto [stranger, p] = connected();
  ControlLink prefill(std::move(p), ControlSide::kPrefill, "");
  const Status met = prefill.shake_hands(50'000);
  ASSERT_FALSE(met.ok());
  EXPECT_THAT(met.error().message, HasSubstr("no sign of life"));
}

TEST(ControlLinks, MessagesHaveALargestSize) {
  Wire wire("s", "s");
  wire.shake_hands();
  EXPECT_FALSE(wire.decode->send(std::string(kControlBytesMax + 1, 'x')).ok());
  constexpr int64_t kStallUs = 50'000;  // nobody reads beyond the announcement
  (void)wire.to_prefill->send('m', std::string(kControlBytesMax + 100, 'x'), kStallUs);
  const auto heard = wire.prefill->recv(test::kWaitUs);
  ASSERT_FALSE(heard.ok());
  EXPECT_THAT(heard.error().message, HasSubstr("announces"));
}

TEST(ControlLinks, AReplayedFrameIsRefused) {
  Wire wire("s", "s");
  wire.shake_hands();
  const Frame frame = wire.caught_message();
  ASSERT_TRUE(wire.to_prefill->send(frame.type, frame.bytes).ok());
  EXPECT_EQ(*wire.prefill->recv(test::kWaitUs), "hello");
  wire.expect_refused(frame, "frame 1 where 2 is due");
}

TEST(ControlLinks, AFrameOfAnotherConnectionIsRefused) {
  Wire before("s", "s"), now("s", "s");
  before.shake_hands();
  now.shake_hands();
  now.expect_refused(before.caught_message(), "wrong seal");
}

TEST(ControlLinks, AFrameSentBackIsRefused) {
  Wire wire("s", "s");
  wire.shake_hands();
  ASSERT_TRUE(wire.prefill->send("hello").ok());
  wire.expect_refused(*wire.to_prefill->recv(test::kWaitUs), "wrong seal");
}

TEST(ControlLinks, EveryAlteredByteIsNoticed) {
  Wire first("s", "s");
  first.shake_hands();
  const size_t length = first.caught_message().bytes.size();
  for (size_t at = 0; at <= length; ++at) {
    Wire wire("s", "s");
    wire.shake_hands();
    Frame frame = wire.caught_message();
    if (at < length) {
      frame.bytes[at] ^= 1;
    } else {
      frame.type = 'h';
    }
    wire.expect_refused(frame, "wrong seal");
  }
}

TEST(ControlLinks, AFrameWithoutASealIsRefused) {
  Wire wire("s", "s");
  wire.shake_hands();
  wire.expect_refused({'m', "hello"}, "without a seal");
}

TEST(ControlLinks, StopEndsTheWaiting) {
  Wire wire("s", "s");
  wire.shake_hands();
  auto heard = std::async(std::launch::async, [&] { return wire.prefill->recv(test::kWaitUs); });
  wire.prefill->stop();
  EXPECT_FALSE(heard.get().ok());
  EXPECT_FALSE(wire.prefill->send("x").ok());
}

}  // namespace
}  // namespace hylas
