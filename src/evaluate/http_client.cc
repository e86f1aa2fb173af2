// The only file of this floor that includes Beast or Asio.
#include "evaluate/http_client.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "base/clock.h"
#include "base/json.h"
#include "evaluate/sse_reader.h"

namespace hylas {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using boost::system::error_code;
using Parser = http::response_parser<http::string_body>;

constexpr int64_t kConnectUsMax = 10'000'000;
constexpr size_t kMessageBytesMax = 300;  // of an answer that is no JSON error

// One request and its answer. Asynchronous operations, each waited for, because only those obey time limits.
class Exchange {
 public:
  Exchange(const BaseUrl& url, std::string_view path, int64_t silence_us_max)
      : url_(url), path_(path), silence_us_max_(silence_us_max), stream_(io_) {
    parser_.body_limit(boost::none);
  }

  Status send(http::verb verb, std::string_view body) {
    HYLAS_TRY(connect());
    http::request<http::string_body> request(verb, url_.prefix + path_, 11);
    request.set(http::field::host, to_string(url_.address));
    request.set(http::field::connection, "close");
    if (verb == http::verb::post) request.set(http::field::content_type, "application/json");
    request.body() = body;
    request.prepare_payload();
    error_code failure = wait(silence_us_max_, [&](auto done) { http::async_write(stream_, request, done); });
    // A server may refuse a request before it has read it all: its answer says more than the broken pipe.
    if (failure && failure != net::error::broken_pipe && failure != net::error::connection_reset)
      return broken(failure);
    return {};
  }

  Status receive_head() {
    while (!parser_.is_header_done()) HYLAS_TRY(receive_some());
    return {};
  }

  // More bytes of the answer are in body() afterwards, unless it is done().
  Status receive_some() {
    error_code failure =
        wait(silence_us_max_, [&](auto done) { http::async_read_some(stream_, buffer_, parser_, done); });
    return failure ? broken(failure) : Status();
  }

  bool done() const { return parser_.is_done(); }
  int status() const { return parser_.get().result_int(); }
  std::string take_body() { return std::exchange(parser_.get().body(), {}); }

 private:
  Status connect() {
    error_code failure;
    tcp::resolver resolver(io_);
    auto found = resolver.resolve(url_.address.host, std::to_string(url_.address.port), failure);
    if (!failure) {
      int64_t limit_us = std::min(kConnectUsMax, silence_us_max_);
      failure = wait(limit_us, [&](auto done) { stream_.async_connect(found, done); });
    }
    if (!failure) failure = no_delay();
    if (!failure) return {};
    return error(ErrorCode::kIo, "cannot reach {}: {}; start the server or name it with --base-url", to_string(url_),
                 failure.message());
  }

  error_code no_delay() {
    error_code failure;
    stream_.socket().set_option(tcp::no_delay(true), failure);
    return failure;
  }

  // Starts an operation and runs until it has ended; its error.
  template <class Start>
  error_code wait(int64_t limit_us, const Start& start) {
    error_code ended;
    stream_.expires_after(std::chrono::microseconds(limit_us));
    start([&ended](error_code failure, const auto&...) { ended = failure; });
    io_.restart();
    io_.run();
    return ended;
  }

  Error broken(error_code failure) const {
    std::string at = to_string(url_) + path_;
    if (failure == beast::error::timeout) {
      return error(ErrorCode::kIo, "{} sent nothing for {} s; see the server's log, or allow more with --timeout", at,
                   silence_us_max_ / 1'000'000);
    }
    return error(ErrorCode::kIo, "{} ended the connection before its answer was complete ({}); see the server's log",
                 at, failure.message());
  }

  const BaseUrl& url_;
  const std::string path_;
  const int64_t silence_us_max_;
  net::io_context io_{1};
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  Parser parser_;
};

Result<HttpAnswer> whole(const BaseUrl& url, http::verb verb, std::string_view path, std::string_view body,
                         int64_t silence_us_max) {
  Exchange exchange(url, path, silence_us_max);
  HYLAS_TRY(exchange.send(verb, body));
  while (!exchange.done()) HYLAS_TRY(exchange.receive_some());
  return HttpAnswer{exchange.status(), exchange.take_body()};
}

}  // namespace

Result<HttpAnswer> HttpClient::get(std::string_view path) const {
  return whole(url_, http::verb::get, path, {}, silence_us_max_);
}

Result<HttpAnswer> HttpClient::post(std::string_view path, std::string_view json) const {
  return whole(url_, http::verb::post, path, json, silence_us_max_);
}

Status HttpClient::post_stream(std::string_view path, std::string_view json, const EventSink& sink) const {
  Exchange exchange(url_, path, silence_us_max_);
  HYLAS_TRY(exchange.send(http::verb::post, json));
  HYLAS_TRY(exchange.receive_head());
  if (exchange.status() != 200) {
    while (!exchange.done()) HYLAS_TRY(exchange.receive_some());
    return answer_error(url_, path, {exchange.status(), exchange.take_body()});
  }
  SseReader reader;
  while (true) {
    int64_t at_us = now_us();
    for (const std::string& data : reader.push(exchange.take_body())) {
      if (!sink(data, at_us)) return {};
    }
    if (exchange.done()) return {};
    HYLAS_TRY(exchange.receive_some());
  }
}

Error answer_error(const BaseUrl& url, std::string_view path, const HttpAnswer& answer) {
  std::string message = answer.body.substr(0, kMessageBytesMax);
  auto parsed = json::parse_object(answer.body, "the answer");
  if (parsed.ok()) {
    auto nested = json::optional_object(*parsed, "error");
    const json::object& from = nested.ok() && *nested ? **nested : *parsed;
    auto said = json::optional_string(from, "message");
    if (said.ok() && *said) message = **said;
  }
  ErrorCode code = answer.status >= 400 && answer.status < 500 ? ErrorCode::kInvalid : ErrorCode::kIo;
  return error(code, "{}{} answered {}: {}", to_string(url), path, answer.status, message);
}

}  // namespace hylas
