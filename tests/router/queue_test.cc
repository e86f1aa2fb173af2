// Requests that wait: for memory at an instance, or for their turn.
#include <deque>

#include "router/router_fixture.h"

namespace hylas::test {
namespace {

using testing::HasSubstr;

class QueueTest : public RouterTest {
 protected:
  // Its requests stay until release(). A worker may still have some when the test is over.
  FakeWorker::Handler holds() {
    return [held = held_](const HttpRequest&, const ReplyPtr& reply) {
      std::lock_guard lock(held->mutex);
      held->replies.push_back(reply);
    };
  }
  // Waits for them: a worker counts a request before it holds it.
  void release(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      ReplyPtr oldest;
      ASSERT_TRUE(eventually([&] {
        std::lock_guard lock(held_->mutex);
        if (held_->replies.empty()) return false;
        oldest = held_->replies.front();
        held_->replies.pop_front();
        return true;
      }));
      oldest->reply_json(200, "{}");
    }
  }
  int64_t queued() { return get_json("/get_load").at("queued").as_int64(); }
  router::WorkerLoad load(int64_t slots_free, int64_t pages_free) {
    return {.role = router::WorkerKind::kDecode,
            .running = 1,
            .slots_free = slots_free,
            .slots_max = 64,
            .pages_free = pages_free,
            .pages_max = 1000,
            .page_size = 64};
  }

  struct Held {
    std::mutex mutex;
    std::deque<ReplyPtr> replies;
  };
  const std::shared_ptr<Held> held_ = std::make_shared<Held>();
};

TEST_F(QueueTest, NoMoreThanTheConcurrentRequestsRun) {
  options_.queue.concurrent_max = 2;
  FakeWorker& worker = whole();
  worker.on_generate(holds());
  start();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(begin(fmt::format(R"({{"text": "{}"}})", i)));
    ASSERT_TRUE(eventually([&] { return get_json("/get_load").at("active").as_int64() + queued() == i + 1; }));
  }
  EXPECT_EQ(worker.seen(), 2u);
  for (size_t next = 2; next < 5; ++next) {  // the oldest first
    release(1);
    ASSERT_TRUE(worker.wait_for_requests(next + 1));
    EXPECT_EQ(worker.seen(), next + 1);
    EXPECT_EQ(worker.body(next).at("text"), boost::json::value(std::to_string(next)));
  }
  release(2);
  for (auto& client : clients) EXPECT_EQ(client->receive().status, 200);
}

TEST_F(QueueTest, BeyondTheQueueTheAnswerIs429) {
  options_.queue.concurrent_max = 1;
  options_.queue.waiting_max = 1;
  FakeWorker& worker = whole();
  worker.on_generate(holds());
  start();
  auto runs = begin();
  ASSERT_TRUE(worker.wait_for_requests(1));
  auto waits = begin();
  ASSERT_TRUE(eventually([&] { return queued() == 1; }));
  HttpAnswer refused = generate();
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.headers, HasSubstr("Retry-After"));
  EXPECT_THAT(error_of(refused), HasSubstr("--queue-size"));
  release(1);
  EXPECT_EQ(runs->receive().status, 200);
  ASSERT_TRUE(worker.wait_for_requests(2));
  release(1);
  EXPECT_EQ(waits->receive().status, 200);
}

TEST_F(QueueTest, WaitingEndsInTime) {
  options_.queue.concurrent_max = 0;
  options_.queue.wait_us_max = 200'000;
  whole();
  start();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(error_of(answer), HasSubstr("--queue-timeout-secs"));
}

TEST_F(QueueTest, WhoWaitsAndGoesAwayIsForgotten) {
  options_.queue.concurrent_max = 0;
  FakeWorker& worker = whole();
  start();
  auto client = begin();
  ASSERT_TRUE(eventually([&] { return queued() == 1; }));
  client.reset();
  EXPECT_TRUE(eventually([&] { return queued() == 0; }));
  EXPECT_EQ(worker.seen(), 0u);
}

TEST_F(QueueTest, ARequestWaitsForASlotOfADecodeInstance) {
  FakeWorker& p = prefill();
  FakeWorker& d = decode();
  d.set_load(load(0, 1000));
  start();
  auto client = begin();
  ASSERT_TRUE(eventually([&] { return queued() == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(p.seen() + d.seen(), 0u);  // no prompt is filled that nobody can take
  d.set_load(load(1, 1000));
  EXPECT_EQ(client->receive().status, 200);
}

TEST_F(QueueTest, ARequestWaitsForPagesOfADecodeInstance) {
  prefill();
  FakeWorker& d = decode();
  d.set_load(load(64, 20));
  start();
  auto large = begin(fmt::format(R"({{"text": "{}"}})", std::string(64 * 3 * 30, 'x')));  // 30 pages and its growth
  ASSERT_TRUE(eventually([&] { return queued() == 1; }));
  auto small = begin(R"({"text": "small"})");
  ASSERT_TRUE(eventually([&] { return queued() == 2; }));  // it does not overtake
  EXPECT_EQ(d.seen(), 0u);
  d.set_load(load(64, 100));
  EXPECT_EQ(large->receive().status, 200);
  EXPECT_EQ(small->receive().status, 200);
}

TEST_F(QueueTest, WhatWasSentSinceTheReportCounts) {
  options_.health.load_interval_us = 60'000'000;  // one report only
  options_.health.interval_us = 60'000'000;
  prefill();
  FakeWorker& d = decode();
  router::WorkerLoad two = load(2, 1000);
  two.running = 0;
  two.slots_max = 2;
  d.set_load(two);
  d.on_generate(holds());
  start();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(begin());
  ASSERT_TRUE(d.wait_for_requests(2));
  ASSERT_TRUE(eventually([&] { return queued() == 1; }));
  EXPECT_EQ(d.seen(), 2u);
  release(1);
  ASSERT_TRUE(d.wait_for_requests(3));
  release(2);
  for (auto& client : clients) EXPECT_EQ(client->receive().status, 200);
}

TEST_F(QueueTest, TheDecodeInstanceWithRoomGetsIt) {
  prefill();
  FakeWorker &full = decode(), &free = decode();
  full.set_load(load(0, 1000));
  start();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(generate().status, 200);
  EXPECT_EQ(full.seen(), 0u);
  EXPECT_EQ(free.seen(), 4u);
}

}  // namespace
}  // namespace hylas::test
