// The client against a server of one connection at a time that sends given bytes.
#include "evaluate/http_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kSilenceUsMax = 20'000'000;

class ScriptedServer {
 public:
  // Answers one connection with `answer` and closes it, or leaves it open until the destructor if `hangs`.
  explicit ScriptedServer(std::string answer, bool hangs = false) : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    HYLAS_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener_, 1) == 0);
    HYLAS_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer = std::move(answer), hangs] { serve(answer, hangs); });
  }
  ~ScriptedServer() {
    if (thread_.joinable()) thread_.join();
    if (connection_ >= 0) close(connection_);
    close(listener_);
  }
  BaseUrl url() const { return {{"127.0.0.1", port_}, "/llm"}; }
  // What the client sent; waits until the connection is over.
  const std::string& request() {
    if (thread_.joinable()) thread_.join();
    return request_;
  }

 private:
  void serve(const std::string& answer, bool hangs) {
    connection_ = accept(listener_, nullptr, nullptr);
    char buffer[4096];
    while (request_.find("\r\n\r\n") == std::string::npos ||
           (request_.starts_with("POST") && !request_.ends_with("}"))) {
      ssize_t got = recv(connection_, buffer, sizeof buffer, 0);
      if (got <= 0) break;
      request_.append(buffer, size_t(got));
    }
    send(connection_, answer.data(), answer.size(), MSG_NOSIGNAL);
    if (!hangs) close(std::exchange(connection_, -1));
  }

  int listener_, connection_ = -1;
  uint16_t port_ = 0;
  std::string request_;
  std::thread thread_;
};

std::string chunk(const std::string& text) { return fmt::format("{:x}\r\n{}\r\n", text.size(), text); }

const std::string kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

TEST(HttpClient, GivesStatusAndBody) {
  ScriptedServer server("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnever");
  auto answer = HttpClient(server.url(), kSilenceUsMax).get("/v1/models");
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->status, 404);
  EXPECT_EQ(answer->body, "never");
  EXPECT_THAT(server.request(), HasSubstr("GET /llm/v1/models HTTP/1.1\r\n"));
}

TEST(HttpClient, PostsJson) {
  ScriptedServer server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  ASSERT_TRUE(HttpClient(server.url(), kSilenceUsMax).post("/generate", "{\"a\":1}").ok());
  EXPECT_THAT(server.request(), HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_TRUE(server.request().ends_with("\r\n\r\n{\"a\":1}"));
}

TEST(HttpClient, HandsOnTheEventsOfAStream) {
  ScriptedServer server(kStreamHead + chunk("data: one\n\nda") + chunk("ta: two\n\n") + "0\r\n\r\n");
  std::vector<std::string> events;
  int64_t last_us = 0;
  Status status = HttpClient(server.url(), kSilenceUsMax).post_stream("/generate", "{}", [&](auto data, int64_t at_us) {
    EXPECT_GE(at_us, last_us);
    last_us = at_us;
    events.emplace_back(data);
    return true;
  });
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_THAT(events, ElementsAre("one", "two"));
}

TEST(HttpClient, KeepsTheEventsBeforeAServerDies) {
  ScriptedServer server(kStreamHead + chunk("data: one\n\n"));
  std::vector<std::string> events;
  Status status = HttpClient(server.url(), kSilenceUsMax).post_stream("/generate", "{}", [&](auto data, int64_t) {
    events.emplace_back(data);
    return true;
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_THAT(status.error().message, HasSubstr(to_string(server.url()) + "/generate ended the connection"));
  EXPECT_THAT(events, ElementsAre("one"));
}

TEST(HttpClient, SaysWhatARefusalSays) {
  const std::string body = "{\"error\":{\"message\":\"`top_p` is too large\"}}";
  ScriptedServer server(fmt::format("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  auto ignore = [](std::string_view, int64_t) { return true; };
  Status status = HttpClient(server.url(), kSilenceUsMax).post_stream("/generate", "{}", ignore);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kInvalid);
  EXPECT_THAT(status.error().message, HasSubstr("answered 400: `top_p` is too large"));
}

TEST(AnswerError, QuotesTheMessageOrTheBody) {
  BaseUrl url{{"gpu7", 80}, ""};
  Error refused = answer_error(url, "/generate", {400, "{\"error\":{\"message\":\"`top_p` is 3\"}}"});
  EXPECT_EQ(refused.code, ErrorCode::kInvalid);
  EXPECT_EQ(refused.message, "http://gpu7:80/generate answered 400: `top_p` is 3");
  Error failed = answer_error(url, "/generate", {500, "Internal Server Error"});
  EXPECT_EQ(failed.code, ErrorCode::kIo);
  EXPECT_EQ(failed.message, "http://gpu7:80/generate answered 500: Internal Server Error");
}

TEST(HttpClient, GivesUpOnASilentServer) {
  ScriptedServer server("", true);
  auto answer = HttpClient(server.url(), 1'000'000).post("/generate", "{}");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ErrorCode::kIo);
  EXPECT_THAT(answer.error().message, HasSubstr("sent nothing for 1 s"));
}

TEST(HttpClient, NamesTheServerThatIsNotThere) {
  uint16_t port = 0;
  {
    ScriptedServer server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    port = server.url().address.port;
    ASSERT_TRUE(HttpClient(server.url(), kSilenceUsMax).get("/").ok());
  }
  auto answer = HttpClient({{"127.0.0.1", port}, ""}, kSilenceUsMax).get("/");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ErrorCode::kIo);
  EXPECT_THAT(answer.error().message, HasSubstr(fmt::format("cannot reach http://127.0.0.1:{}", port)));
  EXPECT_THAT(answer.error().message, HasSubstr("--base-url"));
}

}  // namespace
}  // namespace hylas
