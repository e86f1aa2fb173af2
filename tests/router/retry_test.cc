// What happens to a request when an instance fails.
#include <future>

#include "router/router_fixture.h"

namespace hylas::test {
namespace {

using testing::HasSubstr;

class RetryTest : public RouterTest {};

// Streams `events`, then loses the connection.
FakeWorker::Handler breaks_after(std::vector<std::string> events) {
  return [events](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([events, reply]() mutable {
      reply->begin_stream("text/event-stream");
      for (const std::string& event : events) {
        reply->write(event);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }).detach();  // and with it the last reference to the reply
  };
}

FakeWorker::Handler streams(std::vector<std::string> events) {
  return [events](const HttpRequest&, const ReplyPtr& reply) {
    reply->begin_stream("text/event-stream");
    for (const std::string& event : events) reply->write(event);
    reply->end();
  };
}

TEST_F(RetryTest, StatusesThatAnotherInstanceMayDoBetterAt) {
  FakeWorker &bad = whole(), &good = whole();
  start();
  size_t tried = 0;
  for (int status : {408, 429, 500, 502, 503, 504}) {
    bad.answer(status, "{}");
    for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().status, 200) << status;
    EXPECT_GT(bad.seen(), tried) << status;
    tried = bad.seen();
  }
  EXPECT_EQ(good.seen(), 12u);
}

TEST_F(RetryTest, AClientsErrorIsPassedOnAsItIs) {
  FakeWorker& worker = whole();
  worker.answer(400, R"({"error": {"message": "`top_p` is 7"}})");
  start();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.body, R"({"error": {"message": "`top_p` is 7"}})");
  EXPECT_EQ(worker.seen(), 1u);
}

TEST_F(RetryTest, PrefillsErrorIsTheClientsToo) {
  FakeWorker& p = prefill();
  FakeWorker& d = decode();
  p.on_generate([&d](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&d, reply] {
      d.wait_for_requests(1);
      reply->reply_json(400, R"({"error": "too long"})");
    }).detach();
  });
  d.on_generate([](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([reply] { eventually([&] { return reply->gone(); }); }).detach();
  });
  start();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.body, R"({"error": "too long"})");
  EXPECT_EQ(d.seen(), 1u);
}

TEST_F(RetryTest, TheLastAnswerIsPassedOnWhenAllTriesFail) {
  options_.retry.retries_max = 2;
  FakeWorker& worker = whole();
  worker.answer(503, R"({"error": "full"})");
  start();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.body, R"({"error": "full"})");
  EXPECT_EQ(worker.seen(), 3u);
}

TEST_F(RetryTest, AResetIsTriedElsewhere) {
  ResettingPort port;
  options_.workers.push_back(*router::parse_worker(router::WorkerKind::kWhole, port.url()));
  whole();
  start(1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(generate().status, 200);
}

TEST_F(RetryTest, AnInstanceThatGoesAwayIsLeftAtOnce) {
  whole();
  whole();
  options_.health.interval_us = 60'000'000;  // only the refused connection tells
  start();
  workers_.erase(workers_.begin());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(generate().status, 200);
  EXPECT_EQ(workers_up(), 1u);
}

TEST_F(RetryTest, AnAnswerThatBreaksOffBeforeItsFirstByteIsTriedAgain) {
  FakeWorker &bad = whole(), &good = whole();
  bad.on_generate(breaks_after({}));
  good.on_generate(streams({"data: 1\n\n", "data: [DONE]\n\n"}));
  start();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().body, "data: 1\n\ndata: [DONE]\n\n");
  EXPECT_GE(bad.seen(), 1u);
  bad.on_generate(breaks_after({"data: half an ev"}));  // nothing of it has gone on
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().body, "data: 1\n\ndata: [DONE]\n\n");
}

TEST_F(RetryTest, AnErrorInPlaceOfTheFirstEventIsTriedAgain) {
  FakeWorker &bad = whole(), &good = whole();
  bad.on_generate(streams({"data: {\"error\": {\"message\": \"lost\", \"code\": 500}}\n\n", "data: [DONE]\n\n"}));
  good.on_generate(streams({"data: 1\n\n"}));
  start();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().body, "data: 1\n\n");
  EXPECT_GE(bad.seen(), 1u);
}

TEST_F(RetryTest, AfterTheFirstByteThereIsAnErrorEventAndNoOtherTry) {
  FakeWorker& worker = whole();
  worker.on_generate(breaks_after({"data: 1\n\n", "data: 2\n\ndata: ha"}));
  start();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 200);
  ASSERT_TRUE(answer.body.starts_with("data: 1\n\ndata: 2\n\ndata: {\"error\"")) << answer.body;
  EXPECT_TRUE(answer.body.ends_with("\n\n"));
  EXPECT_THAT(answer.body, HasSubstr("the instance is lost"));
  EXPECT_EQ(worker.seen(), 1u);
}

TEST_F(RetryTest, APrefillFailureBeforeTheFirstByteIsTriedWithAnotherPair) {
  FakeWorker &bad = prefill(), &good = prefill();
  FakeWorker& d = decode();
  bad.answer(500, "{}");
  std::atomic<int> held{0}, aborted{0};
  d.on_generate([&](const HttpRequest& request, const ReplyPtr& reply) {
    int64_t port = boost::json::parse(request.body).at("bootstrap_port").as_int64();
    if (port == 1) return reply->reply_json(200, R"({"text": "right"})");
    ++held;
    std::thread([&, reply] { aborted += eventually([&] { return reply->gone(); }); }).detach();
  });
  options_.workers[0].bootstrap_port = 2;
  options_.workers[1].bootstrap_port = 1;
  start();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().body, R"({"text": "right"})");
  EXPECT_GE(bad.seen(), 1u);
  EXPECT_TRUE(good.wait_for_requests(2));
  EXPECT_TRUE(eventually([&] { return aborted == held; }));  // decode's side is let go
}

TEST_F(RetryTest, APrefillFailureAfterTheFirstByteChangesNothing) {
  FakeWorker& p = prefill();
  FakeWorker& d = decode();
  std::promise<void> streaming;
  auto begun = streaming.get_future().share();
  p.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([=] {
      begun.wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      reply->reply_json(500, "{}");
    }).detach();
  });
  d.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&, reply] {
      reply->begin_stream("text/event-stream");
      reply->write("data: 1\n\n");
      streaming.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      reply->write("data: 2\n\n");
      reply->end();
    }).detach();
  });
  start();
  EXPECT_EQ(generate().body, "data: 1\n\ndata: 2\n\n");
  EXPECT_EQ(d.seen(), 1u);
}

TEST_F(RetryTest, AWholeAnswerThatBreaksOffIsTriedAgain) {
  FakeWorker &bad = whole(), &good = whole();
  bad.on_generate([](const HttpRequest&, const ReplyPtr& reply) {
    reply->begin_stream("application/json");
    reply->write("{\"text\": \"ha");
  });
  good.answer(200, R"({"text": "right"})");
  start();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(generate().body, R"({"text": "right"})");
  EXPECT_GE(bad.seen(), 1u);
}

TEST_F(RetryTest, WithoutRetriesEveryFailureIsTheClients) {
  options_.retry.retries_max = 0;
  FakeWorker& worker = whole();
  worker.answer(500, R"({"error": "x"})");
  start();
  EXPECT_EQ(generate().status, 500);
  EXPECT_EQ(worker.seen(), 1u);
}

TEST_F(RetryTest, ALateAnswerIsGivenUp) {
  options_.request_us_max = 300'000;
  FakeWorker& worker = whole();
  std::atomic<bool> gone{false};
  worker.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&, reply] { gone = eventually([&] { return reply->gone(); }); }).detach();
  });
  start();
  HttpAnswer answer = generate();
  EXPECT_EQ(answer.status, 504);
  EXPECT_THAT(error_of(answer), HasSubstr("--request-timeout-secs"));
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
}

TEST(Backoff, GrowsToALimit) {
  router::RetryOptions retry{.first_us = 100, .longest_us = 300, .multiplier = 1.5, .jitter = 0.2};
  EXPECT_EQ(backoff_us(retry, 1, 0.5), 100);
  EXPECT_EQ(backoff_us(retry, 2, 0.5), 150);
  EXPECT_EQ(backoff_us(retry, 9, 0.5), 300);
  EXPECT_EQ(backoff_us(retry, 1, 0), 80);
  EXPECT_EQ(backoff_us(retry, 1, 1), 120);
}

}  // namespace
}  // namespace hylas::test
