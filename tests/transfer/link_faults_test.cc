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
  void expect_all_failed(Results& results, Clock::time_point since, Clock::duration most) {
    EXPECT_TRUE(results.wait(seconds(30)));
    EXPECT_LT(Clock::now() - since, most);
    for (const PutResult& result : results.all()) {
      EXPECT_TRUE(result.status.ok() || result.status.error().code == ErrorCode::kIo);
    }
    EXPECT_GT(results.failed(), 0u);
  }

  const std::vector<std::byte> data_ = random_bytes(64 << 20, 9);
  const int32_t peer_;
};

TEST_P(LinkFaults, KillMinusNineFailsPutsSoon) {
  Results before, after;
  put_much(before);
  far_.process().signal(SIGKILL);
  const auto killed = Clock::now();
  far_.process().wait();
  link_->put(peer_, {{data_.data(), 0, 0, data_.size(), 0}}, after.add());
  expect_all_failed(after, killed, seconds(8));
  expect_all_failed(before, killed, seconds(8));
  const Result<int32_t> again = link_->connect(far_.description());
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::kIo);
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
  EXPECT_TRUE(results.failed() > 0 || GetParam().name != std::string("tcp")) << "shared memory needs no answer";
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
  std::vector<std::byte> memory(data_.size());
  const std::unique_ptr<Link> near = test::make_link(GetParam());
  const Region region{memory.data(), memory.size()};
  const std::string description = near->open({&region, 1}).value();
  far_.process().signal(SIGSTOP);
  Results stalled;
  put_much(stalled);
  const int32_t other = link_->connect(description).value();
  EXPECT_TRUE(put_and_wait(*link_, other, {{data_.data(), 0, 0, data_.size(), 0}}).status.ok());
  EXPECT_EQ(memory, data_);
  far_.process().signal(SIGCONT);
  EXPECT_EQ(stalled.failed(), 0u);
}

INSTANTIATE_TEST_SUITE_P(SlowKinds, LinkFaults,
                         testing::Values(LinkKind{"tcp", "tcp", true}, LinkKind{"shared_memory", "shm,tcp", true}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hylas
