// The HTTP server over real sockets on 127.0.0.1, with handlers that the tests choose.
#include "serve/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "base/net.h"
#include "support/http_client.h"

namespace hylas::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class HttpTest : public testing::Test {
 protected:
  HttpTest() {
    options_.body_bytes_max = 100'000;
    options_.header_bytes_max = 8 << 10;
  }

  void start(HttpHandler handler) {
    auto server = HttpServer::bind(options_);
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = std::move(*server);
    auto error_body = [](int status, const std::string& message) { return fmt::format("{} {}", status, message); };
    ASSERT_TRUE(server_->start(std::move(handler), error_body).ok());
  }
  void start_echo() {
    start([](HttpRequest request, std::shared_ptr<HttpReply> reply) {
      reply->reply(200, "text/plain", fmt::format("{} {} {}", request.method, request.path, request.body));
    });
  }
  HttpClient client() { return HttpClient(server_->port()); }

  HttpOptions options_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, AnswersOnAConnectionThatStays) {
  start_echo();
  HttpClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    HttpAnswer answer = client.post("/x", std::to_string(i));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, fmt::format("POST /x {}", i));
  }
  EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(HttpTest, PipelinedRequestsAreAnsweredInOrder) {
  start([](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    std::thread([=] {
      std::this_thread::sleep_for(request.path == "/1" ? milliseconds(50) : milliseconds(0));
      reply->reply(200, "text/plain", request.path);
    }).detach();
  });
  HttpClient client(server_->port());
  client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(10));
  client.send("GET /3 HTTP/1.1\r\n\r\n");
  for (const char* path : {"/1", "/2", "/3"}) EXPECT_EQ(client.receive().body, path);
}

TEST_F(HttpTest, ConnectionCloseAndOldHttp) {
  start_echo();
  HttpClient closing(server_->port());
  closing.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(closing.receive().headers, HasSubstr("Connection: close"));
  EXPECT_TRUE(closing.ended());
  HttpClient old(server_->port());
  old.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.receive().status, 200);
  EXPECT_TRUE(old.ended());
}

TEST_F(HttpTest, HeadHasNoBody) {
  start_echo();
  HttpClient client(server_->port());
  client.send("HEAD /x HTTP/1.1\r\n\r\n");
  EXPECT_THAT(client.receive(/*head_only=*/true).headers, HasSubstr("Content-Length: 8"));
  EXPECT_EQ(client.get("/y").body, "GET /y ");
}

TEST_F(HttpTest, MalformedRequestsGet400) {
  start_echo();
  for (const char* bytes : {"nonsense\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n",
                            "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n"}) {
    HttpClient client(server_->port());
    client.send(bytes);
    HttpAnswer answer = client.receive();
    EXPECT_EQ(answer.status, 400) << bytes;
    EXPECT_THAT(answer.body, HasSubstr("malformed HTTP"));
    EXPECT_TRUE(client.ended());
  }
  EXPECT_EQ(client().get("/").status, 200);
}

TEST_F(HttpTest, TooLargeBodiesAndHeaders) {
  start_echo();
  HttpClient body(server_->port());
  EXPECT_EQ(body.post("/", std::string(100'001, 'x')).status, 413);
  HttpClient chunked(server_->port());
  chunked.send(fmt::format("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n", 200'000,
                           std::string(200'000, 'x')));
  EXPECT_EQ(chunked.receive().status, 413);
  HttpClient header(server_->port());
  header.send("GET / HTTP/1.1\r\nX: " + std::string(10'000, 'x') + "\r\n\r\n");
  EXPECT_EQ(header.receive().status, 431);
  HttpClient largest(server_->port());
  EXPECT_EQ(largest.post("/", std::string(100'000, 'x')).status, 200);
}

TEST_F(HttpTest, ExpectContinue) {
  start_echo();
  HttpClient client(server_->port());
  client.send("POST /x HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.receive().status, 100);
  client.send("hi");
  EXPECT_EQ(client.receive().body, "POST /x hi");
}

TEST_F(HttpTest, SlowRequestsAreDropped) {
  options_.read_timeout_us = 50'000;
  options_.idle_timeout_us = 50'000;
  start_echo();
  HttpClient half(server_->port());
  half.send("GET / HTT");
  EXPECT_TRUE(half.ended());
  HttpClient idle(server_->port());
  EXPECT_TRUE(idle.ended());
}

TEST_F(HttpTest, StreamsArriveAsTheyAreWritten) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  start([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    reply->begin_stream("text/event-stream");
    promise.set_value(std::move(reply));
  });
  HttpClient client(server_->port());
  client.send("GET / HTTP/1.1\r\n\r\n");
  auto reply = promise.get_future().get();
  EXPECT_THAT(client.receive_some(), HasSubstr("Content-Type: text/event-stream"));
  EXPECT_TRUE(reply->write("one"));
  EXPECT_EQ(client.receive_some(), "3\r\none\r\n");
  EXPECT_TRUE(reply->write("two"));
  EXPECT_EQ(client.receive_some(), "3\r\ntwo\r\n");
  reply->end();
  EXPECT_EQ(client.receive_some(), "0\r\n\r\n");
}

TEST_F(HttpTest, ADisconnectIsNoticed) {
  std::promise<void> gone;
  std::shared_ptr<HttpReply> kept;
  start([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    kept = reply;
    reply->on_gone([&] { gone.set_value(); });
  });
  {
    HttpClient client(server_->port());
    client.send("GET / HTTP/1.1\r\n\r\n");
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(gone.get_future().wait_for(milliseconds(10000)), std::future_status::ready);
  EXPECT_TRUE(kept->gone());
  EXPECT_FALSE(kept->write("x"));
}

TEST_F(HttpTest, ASlowReaderIsDroppedAndOthersAreNot) {
  options_.stream_buffer_bytes_max = 1 << 20;
  std::promise<bool> dropped;
  start([&](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path != "/stream") return reply->reply(200, "text/plain", "fine");
    std::thread([&, reply] {
      reply->begin_stream("text/event-stream");
      const std::string piece(64 << 10, 'x');
      bool accepted = true;
      for (int i = 0; i < 2000 && accepted; ++i) {
        accepted = reply->write(piece);
        if (i > 200) std::this_thread::sleep_for(milliseconds(1));
      }
      dropped.set_value(!accepted);
    }).detach();
  });
  HttpClient slow(server_->port(), /*receive_buffer_bytes=*/4096);
  slow.send("GET /stream HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client().get("/").body, "fine");
  EXPECT_TRUE(dropped.get_future().get());
  EXPECT_EQ(client().get("/").body, "fine");
}

TEST_F(HttpTest, AWriterCanWaitForASlowReader) {
  constexpr size_t kPieces = 200;
  const std::string piece(64 << 10, 'x');
  std::atomic<size_t> most_unsent{0};
  start([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    std::thread([&, reply] {
      reply->begin_stream("text/plain");
      for (size_t i = 0; i < kPieces; ++i) {
        reply->write(piece);
        most_unsent = std::max(most_unsent.load(), reply->unsent_bytes());
        std::promise<void> writable;
        reply->on_writable([&] { writable.set_value(); });
        writable.get_future().get();
      }
      reply->end();
    }).detach();
  });
  HttpClient slow(server_->port(), /*receive_buffer_bytes=*/4096);
  slow.send("GET / HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(slow.receive().body.size(), kPieces * piece.size());
  EXPECT_LE(most_unsent, piece.size());
}

TEST_F(HttpTest, AWriterThatWaitsLearnsThatItsClientIsGone) {
  std::promise<void> waiting, woken;
  start([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    std::thread([&, reply] {
      reply->begin_stream("text/plain");
      reply->write(std::string(32 << 20, 'x'));  // more than the system buffers
      while (reply->unsent_bytes() > 0) std::this_thread::sleep_for(milliseconds(1));
      reply->write("x");
      reply->on_writable([&] { woken.set_value(); });
      waiting.set_value();
    }).detach();
  });
  auto woke = woken.get_future();
  {
    HttpClient slow(server_->port(), /*receive_buffer_bytes=*/4096);
    slow.send("GET / HTTP/1.1\r\n\r\n");
    waiting.get_future().get();
    EXPECT_EQ(woke.wait_for(milliseconds(50)), std::future_status::timeout);
  }
  EXPECT_EQ(woke.wait_for(milliseconds(10000)), std::future_status::ready);
}

TEST_F(HttpTest, AForgottenStreamHasNoEnd) {
  start([](HttpRequest, std::shared_ptr<HttpReply> reply) {
    reply->begin_stream("text/plain");
    reply->write("half");
  });
  HttpClient client(server_->port());
  client.send("GET / HTTP/1.1\r\n\r\n");
  std::string all;
  for (std::string more = client.receive_some(); !more.empty(); more = client.receive_some()) all += more;
  EXPECT_TRUE(all.ends_with("4\r\nhalf\r\n")) << all;
}

TEST_F(HttpTest, AForgottenAnswerIsA500) {
  start([](HttpRequest, std::shared_ptr<HttpReply>) {});
  HttpClient client(server_->port());
  EXPECT_EQ(client.get("/").status, 500);
}

TEST_F(HttpTest, ManyStreamsAtOnce) {
  options_.threads = 2;
  start([](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    std::thread([=] {
      reply->begin_stream("text/event-stream");
      for (int i = 0; i < 20; ++i) reply->write(request.path);
      reply->end();
    }).detach();
  });
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server_->port()));
    clients.back()->send(fmt::format("GET /{:02} HTTP/1.1\r\n\r\n", i));
  }
  for (int i = 0; i < 64; ++i) {
    std::string expected;
    for (int k = 0; k < 20; ++k) expected += fmt::format("/{:02}", i);
    EXPECT_EQ(clients[size_t(i)]->receive().body, expected);
  }
}

TEST_F(HttpTest, TooManyConnectionsAreClosed) {
  options_.connections_max = 2;
  start_echo();
  HttpClient first(server_->port()), second(server_->port());
  EXPECT_EQ(first.get("/").status, 200);
  EXPECT_EQ(second.get("/").status, 200);
  HttpClient third(server_->port());
  EXPECT_TRUE(third.ended());
  EXPECT_EQ(first.get("/").status, 200);
}

TEST_F(HttpTest, StoppingLetsRequestsFinish) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  start([&](HttpRequest, std::shared_ptr<HttpReply> reply) { promise.set_value(std::move(reply)); });
  HttpClient client(server_->port());
  client.send("GET / HTTP/1.1\r\n\r\n");
  auto reply = promise.get_future().get();
  server_->stop_accepting();
  EXPECT_FALSE(server_->wait_idle(20'000));
  reply->reply(200, "text/plain", "last");
  HttpAnswer answer = client.receive();
  EXPECT_EQ(answer.body, "last");
  EXPECT_THAT(answer.headers, HasSubstr("Connection: close"));
  EXPECT_TRUE(server_->wait_idle(5'000'000));
}

TEST_F(HttpTest, APortInUseIsAnError) {
  start_echo();
  HttpOptions same = options_;
  same.port = server_->port();
  auto second = HttpServer::bind(same);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kIo);
  EXPECT_THAT(second.error().message, HasSubstr(fmt::format("127.0.0.1:{}", same.port)));
  EXPECT_THAT(second.error().message, HasSubstr("in use"));
  same.host = "no.such.host.invalid";
  EXPECT_FALSE(HttpServer::bind(same).ok());
}

}  // namespace
}  // namespace hylas::test
