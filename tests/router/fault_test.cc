// Instances that fail for longer, go, come and are told to leave.
#include "router/router_fixture.h"

namespace hylas::test {
namespace {

using testing::HasSubstr;

class FaultTest : public RouterTest {
 protected:
  std::string circuit(size_t index) {
    return std::string(get_json("/workers").at("workers").at(index).at("circuit").as_string());
  }
};

TEST_F(FaultTest, TheCircuitOpensAndClosesAgain) {
  options_.breaker = {.failures = 3, .successes = 2, .open_us = 300'000};
  options_.retry.retries_max = 0;
  options_.queue.no_worker_us_max = 5'000'000;
  FakeWorker& worker = whole();
  worker.answer(500, "{}");
  start();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(generate().status, 500);
  EXPECT_EQ(circuit(0), "open");
  EXPECT_THAT(get("/metrics").body, HasSubstr("worker_circuit_open{worker=\"" + worker.url()));
  worker.answer(200, "{}");
  EXPECT_EQ(generate().status, 200);  // waits until the circuit lets one through
  EXPECT_EQ(worker.seen(), 4u);
  EXPECT_EQ(circuit(0), "half_open");
  EXPECT_EQ(generate().status, 200);
  EXPECT_EQ(circuit(0), "closed");
}

TEST_F(FaultTest, HealthTakesItDownAndBringsItBack) {
  options_.health.thresholds = {.failures = 2, .successes = 2};
  FakeWorker &a = whole(), &b = whole();
  start();
  a.set_health(503);
  ASSERT_TRUE(wait_until_up(1));
  EXPECT_THAT(std::string(get_json("/workers").at("workers").at(0).at("problem").as_string()), HasSubstr("503"));
  size_t before = a.seen();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(generate().status, 200);
  EXPECT_EQ(a.seen(), before);
  EXPECT_EQ(b.seen(), 3u);
  EXPECT_EQ(get("/readiness").status, 200);
  b.set_health(503);
  ASSERT_TRUE(wait_until_up(0));
  EXPECT_EQ(get("/readiness").status, 503);
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(get("/liveness").status, 200);
  a.set_health(200);
  ASSERT_TRUE(wait_until_up(1));
}

TEST_F(FaultTest, RequestsAtAnInstanceThatGoesDownAreTriedElsewhere) {
  options_.health.thresholds.failures = 1;
  FakeWorker &hangs = whole(), &good = whole();
  std::atomic<bool> gone{false};
  hangs.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&, reply] { gone = eventually([&] { return reply->gone(); }); }).detach();
  });
  start();
  auto first = begin(), second = begin();
  ASSERT_TRUE(hangs.wait_for_requests(1));
  hangs.set_health(503);
  EXPECT_EQ(first->receive().status, 200);
  EXPECT_EQ(second->receive().status, 200);
  EXPECT_EQ(good.seen(), 2u);
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
}

TEST_F(FaultTest, RequestsWaitForAReplacement) {
  options_.queue.no_worker_us_max = 10'000'000;
  prefill();
  decode();
  start();
  uint16_t port = workers_[1]->port();
  workers_.pop_back();
  auto waiting = begin();
  ASSERT_TRUE(eventually([&] { return workers_up() == 1; }));
  workers_.push_back(std::make_unique<FakeWorker>(router::WorkerKind::kDecode, port));
  EXPECT_EQ(waiting->receive().status, 200);
}

// Its circuit was open for a minute because of the one before.
TEST_F(FaultTest, AReplacementGetsRequestsAtOnce) {
  options_.breaker = {.failures = 2, .open_us = 60'000'000};
  options_.retry.retries_max = 0;
  options_.health.thresholds = {.failures = 1, .successes = 1};
  options_.queue.no_worker_us_max = 0;
  FakeWorker& worker = whole();
  worker.answer(500, "{}");
  start();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().status, 500);
  EXPECT_EQ(circuit(0), "open");
  const uint16_t port = worker.port();
  workers_.pop_back();
  ASSERT_TRUE(wait_until_up(0));
  workers_.push_back(std::make_unique<FakeWorker>(router::WorkerKind::kWhole, port));
  ASSERT_TRUE(wait_until_up(1));
  EXPECT_EQ(circuit(0), "closed");
  EXPECT_EQ(generate().status, 200);
}

TEST_F(FaultTest, WithoutAnyInstanceTheAnswerSaysWhy) {
  prefill();
  decode();
  start();
  workers_.pop_back();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(error_of(answer), HasSubstr("onnection refused"));
}

TEST_F(FaultTest, WorkersComeAndGoWhileStreamsRun) {
  FakeWorker& first = whole();
  std::mutex mutex;
  ReplyPtr stream;
  first.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    reply->begin_stream("text/event-stream");
    reply->write("data: 1\n\n");
    std::lock_guard lock(mutex);
    stream = reply;
  });
  start();
  auto client = begin(R"({"stream": true})");
  ASSERT_TRUE(first.wait_for_requests(1));

  FakeWorker second(router::WorkerKind::kWhole);
  HttpAnswer added = post("/workers", fmt::format(R"({{"url": "{}", "worker_type": "regular"}})", second.url()));
  EXPECT_EQ(added.status, 202);
  EXPECT_EQ(post("/workers", fmt::format(R"({{"url": "{}"}})", second.url())).status, 409);
  ASSERT_TRUE(wait_until_up(2));
  HttpClient remover = HttpClient(router_->port());
  remover.send("DELETE /workers/worker-1 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(remover.receive().status, 202);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(generate().body, fmt::format(R"({{"text": "from {}"}})", second.port()));
  EXPECT_EQ(first.seen(), 1u);
  {
    std::lock_guard lock(mutex);
    stream->write("data: 2\n\n");
    stream->end();
  }
  EXPECT_EQ(client->receive().body, "data: 1\n\ndata: 2\n\n");
  EXPECT_EQ(get_json("/workers").at("total"), 1);
  remover.send(fmt::format("DELETE /workers?url={} HTTP/1.1\r\nHost: x\r\n\r\n", second.url()));
  EXPECT_EQ(remover.receive().status, 202);
  remover.send("DELETE /workers/worker-9 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(remover.receive().status, 404);
  router_.reset();  // before `second`
}

}  // namespace
}  // namespace hylas::test
