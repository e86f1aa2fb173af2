// What becomes of puts to a process that dies or does not answer.
#include <signal.h>

#include "transfer/link_fixture.h"

namespace hylas {
namespace {

using std::chrono::seconds;
using test::Clock;
using test::LinkKind;
using test::put_and_wait;
using test::random_bytes;
using test::Results;

class LinkFaults : public test::LinkFixture {
 protected:
  LinkFaults() : peer_(link_->connect(far_.description()).value()) {}
  // More than the kernel's buffers hold.
  void put_much(Results& results) {
    for (int i = 0; i < 8; ++i) link_->put(peer_, {{data_.data(), 0, 0, data_.size(), 0}}, results.add());
  }
  // Every put ended soon, and either its bytes went or the peer is said to be lost.
  void expect_all_ended(Results& results, Clock::time_point since) {
    EXPECT_TRUE(results.wait(seconds(30)));
    EXPECT_LT(Clock::now() - since, seconds(8)) << "long before the link's patience with silent peers ends";
    for (const PutResult& result : results.all()) {
      EXPECT_TRUE(result.status.ok() || result.status.error().code == ErrorCode::kIo);
    }
  }
  // Shared memory takes bytes without its owner.
  bool needs_answers() const { return GetParam().name == std::string("tcp"); }

  const std::vector<std::byte> data_ = random_bytes(64 << 20, 9);
  const int32_t peer_;
};

TEST_P(LinkFaults, KillMinusNineFailsPutsSoon) {
  ASSERT_TRUE(put_and_wait(*link_, peer_, {{data_.data(), 0, 0, 1000, 0}}).status.ok());
  far_.process().signal(SIGSTOP);  // so that it dies before it has taken everything that it must take itself
  Results before, after;
  put_much(before);
  far_.process().signal(SIGKILL);
  const auto killed = Clock::now();
  far_.process().wait();
  link_->put(peer_, {{data_.data(), 0, 0, data_.size(), 0}}, after.add());
  expect_all_ended(after, killed);
  expect_all_ended(before, killed);
  EXPECT_EQ(after.failed(), 1u);
  EXPECT_TRUE(before.failed() > 0 || !needs_answers());
  const Result<int32_t> again = link_->connect(far_.description());
  ASSERT_FALSE(again.ok());
  EXPECT_NE(again.error().code, ErrorCode::kInvalid) << "it is gone, and not wrong";
}

TEST_P(LinkFaults, DisconnectingASilentPeerFailsWhatIsUnderWay) {
  far_.process().signal(SIGSTOP);
  Results results;
  put_much(results);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const auto begin = Clock::now();
  link_->disconnect(peer_, "no heartbeat");
  EXPECT_TRUE(results.wait(seconds(30)));
  EXPECT_LT(Clock::now() - begin, seconds(5));
  EXPECT_TRUE(results.failed() > 0 || !needs_answers());
  far_.process().signal(SIGCONT);
}

TEST_P(LinkFaults, ASilentPeerThatComesBackGetsEverything) {
  far_.process().signal(SIGSTOP);
  Results results;
  put_much(results);
  std::this_thread::sleep_for(seconds(2));
  far_.process().signal(SIGCONT);
  EXPECT_EQ(results.failed(), 0u);
  EXPECT_EQ(std::memcmp(far_.region(0), data_.data(), data_.size()), 0);
}

TEST_P(LinkFaults, TheEndWaitsSecondsForASilentPeer) {
  far_.process().signal(SIGSTOP);
  Results results;
  put_much(results);
  const auto begin = Clock::now();
  link_.reset();
  EXPECT_LT(Clock::now() - begin, seconds(10));
  EXPECT_TRUE(results.wait(seconds(0)));
  results.all();
  far_.process().signal(SIGCONT);
}

// A stalled peer holds up its own puts only.
TEST_P(LinkFaults, OthersAreServedMeanwhile) {
  const FileHandle file = make_shared_file(data_.size()).value();
  const Mapping memory = Mapping::of(file.number(), data_.size()).value();
  const std::unique_ptr<Link> near = GetParam().make();
  const Region region{memory.data(), memory.bytes(), file.number()};
  ASSERT_TRUE(near->open({&region, 1}).ok());
  const std::string description = near->invite().value();
  far_.process().signal(SIGSTOP);
  Results stalled;
  put_much(stalled);
  const int32_t other = link_->connect(description).value();
  EXPECT_TRUE(put_and_wait(*link_, other, {{data_.data(), 0, 0, data_.size(), 0}}).status.ok());
  EXPECT_EQ(std::memcmp(memory.data(), data_.data(), data_.size()), 0);
  far_.process().signal(SIGCONT);
  EXPECT_EQ(stalled.failed(), 0u);
}

INSTANTIATE_TEST_SUITE_P(SlowKinds, LinkFaults,
                         testing::Values(LinkKind{"tcp", test::make_tcp_link, true},
                                         LinkKind{"shared_memory", make_shm_link, true}),
                         [](const auto& info) { return std::string(info.param.name); });

// A process that writes 64 MiB without end, until it is told that the other one took its memory back.
class Writer {
 public:
  Writer(const LinkKind& kind, const std::string& invitation)
      : process_([kind, invitation](const std::function<void()>& ready) {
          const std::unique_ptr<Link> link = kind.make();
          const std::vector<std::byte> data = random_bytes(64 << 20, 11);
          const int32_t peer = link->connect(invitation).value();
          ready();
          while (put_and_wait(*link, peer, {{data.data(), 0, 0, data.size(), 0}}).status.ok()) {
          }
          return 0;
        }) {
    HYLAS_CHECK(process_.wait_until_ready(), "{}", process_.log());
  }
  test::ChildProcess& process() { return process_; }

 private:
  test::ChildProcess process_;
};

class TakenBack : public testing::TestWithParam<LinkKind> {
 protected:
  void clear() { std::memset(far_.region(0), 0, 64 << 20); }
  bool is_clear() const {
    const std::span<const std::byte> bytes(far_.region(0), 64 << 20);
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
  }
  test::Far far_{GetParam()};
};

// Whatever the writer does when it is taken back, nothing lands once that was done.
TEST_P(TakenBack, FromAWriterThatIsStoppedInTheMiddleAndComesBack) {
  Writer writer(GetParam(), far_.description());
  for (int pause_ms : {40, 3, 17}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    writer.process().signal(SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    writer.process().signal(SIGCONT);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  writer.process().signal(SIGSTOP);
  far_.begin_revoking();
  if (!far_.revoked(seconds(1))) {  // it stopped within a write: known, and waited for
    writer.process().signal(SIGCONT);
    ASSERT_TRUE(far_.revoked(seconds(10)));
  }
  clear();
  writer.process().signal(SIGCONT);
  EXPECT_EQ(writer.process().wait(seconds(20)), 0) << writer.process().log();
  EXPECT_TRUE(is_clear());
}

TEST_P(TakenBack, FromAWriterThatIsKilledInTheMiddle) {
  Writer writer(GetParam(), far_.description());
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  writer.process().signal(SIGKILL);
  far_.begin_revoking();
  ASSERT_TRUE(far_.revoked(seconds(10)));
  clear();
  writer.process().wait();
  EXPECT_TRUE(is_clear());
}

INSTANTIATE_TEST_SUITE_P(SlowKinds, TakenBack,
                         testing::Values(LinkKind{"tcp", test::make_tcp_link, true},
                                         LinkKind{"shared_memory", make_shm_link, true}),
                         [](const auto& info) { return std::string(info.param.name); });

// Neither side notices anything but that nothing moves.
TEST(UcxPatience, APeerThatTakesNothingIsLostAfterIt) {
  test::Far far({"tcp", test::make_tcp_link, true});
  const std::unique_ptr<Link> link = make_ucx_link({.transports = "tcp", .patience_us = 1'000'000}).value();
  const std::vector<std::byte> data = random_bytes(64 << 20, 12);
  const int32_t peer = link->connect(far.description()).value();
  far.process().signal(SIGSTOP);
  const auto begin = Clock::now();
  const PutResult result = put_and_wait(*link, peer, {{data.data(), 0, 0, data.size(), 0}});
  EXPECT_LT(Clock::now() - begin, seconds(8));
  ASSERT_FALSE(result.status.ok());
  EXPECT_THAT(result.status.error().message, testing::HasSubstr("took no bytes"));
  far.process().signal(SIGCONT);
}

}  // namespace
}  // namespace hylas
