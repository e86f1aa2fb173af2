// Clients that read slowly or go away.
#include <utility>

#include "router/router_fixture.h"

namespace hylas::test {
namespace {

class StreamTest : public RouterTest {};

const std::string kEvent = "data: " + std::string(1000, 'x') + "\n\n";

TEST_F(StreamTest, EventsArriveAsTheyAreWritten) {
  FakeWorker& worker = whole();
  std::mutex mutex;
  ReplyPtr reply;
  worker.on_generate([&](const HttpRequest&, const ReplyPtr& one) {
    std::lock_guard lock(mutex);
    reply = one;
    one->begin_stream("text/event-stream; charset=utf-8");
    one->write("data: 1\n\n");
  });
  start();
  auto client = begin(R"({"stream": true})");
  std::string heard;
  const auto hears = [&](const char* event) {
    return eventually([&] { return (heard += client->receive_some()).ends_with(event); });
  };
  ASSERT_TRUE(hears("9\r\ndata: 1\n\n\r\n")) << heard;
  EXPECT_THAT(heard, testing::HasSubstr("Content-Type: text/event-stream; charset=utf-8"));
  std::lock_guard lock(mutex);
  reply->write("data: 2\n\n");
  EXPECT_TRUE(hears("9\r\ndata: 2\n\n\r\n")) << heard;
  reply->end();
}

TEST_F(StreamTest, ASlowClientHoldsItsInstanceBackAndLosesNothing) {
  constexpr size_t kEvents = 40'000;  // 40 MB: more than all sockets on the way take
  FakeWorker& worker = whole();
  std::atomic<size_t> written{0};
  std::atomic<bool> whole_stream{false};
  worker.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&, reply] {
      reply->begin_stream("text/event-stream");
      for (; written < kEvents && !reply->gone(); ++written) {
        // As an instance of finite speed: it goes on when the router has taken what it wrote.
        if (!eventually([&] { return reply->gone() || reply->unsent_bytes() < 64 * kEvent.size(); })) return;
        reply->write(kEvent);
      }
      whole_stream = written == kEvents;
      reply->end();
    }).detach();
  });
  start();
  auto slow = begin(R"({"stream": true})", /*receive_buffer_bytes=*/4096);
  size_t before = 0;
  ASSERT_TRUE(eventually([&] {  // until it stands still
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return std::exchange(before, written.load()) == written && written > 0;
  }));
  EXPECT_LT(written, kEvents / 2);
  EXPECT_EQ(get_json("/get_load").at("active"), 1);
  HttpAnswer answer = slow->receive();
  EXPECT_TRUE(whole_stream);
  EXPECT_EQ(answer.body.size(), kEvents * kEvent.size());
}

TEST_F(StreamTest, AClientThatGoesAwayLeavesNothingBehind) {
  FakeWorker& p = prefill();
  FakeWorker& d = decode();
  std::atomic<int> gone{0};
  auto wait = [&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&gone, reply] { gone += eventually([&] { return reply->gone(); }); }).detach();
  };
  p.on_generate(wait);
  d.on_generate(wait);
  start();
  auto client = begin();
  ASSERT_TRUE(p.wait_for_requests(1) && d.wait_for_requests(1));
  client.reset();
  EXPECT_TRUE(eventually([&] { return gone == 2; }));
  EXPECT_EQ(get_json("/get_load").at("active"), 0);
  EXPECT_EQ(d.seen(), 1u);
}

TEST_F(StreamTest, AClientThatGoesAwayInAStreamEndsIt) {
  FakeWorker& worker = whole();
  std::atomic<bool> gone{false};
  worker.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&, reply] {
      reply->begin_stream("text/event-stream");
      gone = eventually([&] {
        reply->write(kEvent);
        return reply->gone();
      });
    }).detach();
  });
  start();
  {
    auto client = begin(R"({"stream": true})");
    EXPECT_FALSE(client->receive_some().empty());
  }
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
  EXPECT_TRUE(eventually([&] { return get_json("/get_load").at("active") == 0; }));
}

TEST_F(StreamTest, AClientThatGoesAwayWhileItIsWaitedForEndsItToo) {
  FakeWorker& worker = whole();
  std::atomic<bool> gone{false};
  worker.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::thread([&, reply] {
      reply->begin_stream("text/event-stream");
      gone = eventually([&] {
        if (reply->unsent_bytes() < (1 << 20)) reply->write(kEvent);
        return reply->gone();
      });
    }).detach();
  });
  start();
  auto slow = begin(R"({"stream": true})", /*receive_buffer_bytes=*/4096);
  ASSERT_TRUE(worker.wait_for_requests(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  slow.reset();
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
}

}  // namespace
}  // namespace hylas::test
