// Calls on Boost.Beast: one coroutine for each, on a strand of its own, with a connection of its own. The only file of
// this floor that includes Beast or Asio.
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/net.h"
#include "base/thread.h"
#include "router/upstream.h"

namespace hylas::router {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using Strand = net::strand<net::io_context::executor_type>;
using Stream = beast::basic_stream<tcp, Strand>;
using Timer = net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>, Strand>;
using boost::system::error_code;
using std::chrono::microseconds;
constexpr auto kToken = net::as_tuple(net::use_awaitable);
constexpr size_t kReadBytes = 16 << 10;
// A peer whose machine is gone shows after 10 + 3 * 5 s.
constexpr int kKeepAliveIdleS = 10, kKeepAliveIntervalS = 5, kKeepAliveProbes = 3;

class BeastCall : public UpstreamCall, public std::enable_shared_from_this<BeastCall> {
 public:
  BeastCall(net::io_context& io, int64_t connect_us_max, UpstreamRequest request, std::shared_ptr<UpstreamSink> sink)
      : strand_(net::make_strand(io)),
        stream_(strand_),
        resolver_(strand_),
        wake_(strand_, Timer::time_point::max()),
        deadline_(strand_),
        connect_us_max_(connect_us_max),
        request_(std::move(request)),
        sink_(std::move(sink)) {}

  void resume() override {
    net::post(strand_, [self = shared_from_this()] {
      self->paused_ = false;
      self->wake_.cancel();
    });
  }
  void cancel() override {
    net::post(strand_, [self = shared_from_this()] { self->stop("cancelled"); });
  }

  void start() {
    net::co_spawn(strand_, run(), [self = shared_from_this()](std::exception_ptr thrown) { self->finish(thrown); });
  }

 private:
  // The coroutine lives no longer than this: the completion handler of co_spawn holds it.
  net::awaitable<void> run() {
    if (request_.time_us_max > 0) {
      deadline_.expires_after(microseconds(request_.time_us_max));
      deadline_.async_wait([self = shared_from_this()](error_code failure) {
        if (!failure) self->stop("no answer in time");
      });
    }
    if (!co_await connect() || !co_await send()) co_return;
    co_await receive();
  }

  net::awaitable<bool> connect() {
    const HostPort& address = request_.url.address;
    std::vector<tcp::endpoint> endpoints;
    error_code failure;
    if (auto numeric = net::ip::make_address(address.host, failure); !failure) {
      endpoints.emplace_back(numeric, address.port);
    } else {
      auto [problem, found] = co_await resolver_.async_resolve(address.host, std::to_string(address.port), kToken);
      if (problem) co_return fail(problem, "cannot find the host");
      for (const auto& entry : found) endpoints.push_back(entry.endpoint());
    }
    if (stopped_) co_return false;
    stream_.expires_after(microseconds(connect_us_max_));
    auto [problem, endpoint] = co_await stream_.async_connect(endpoints, kToken);
    refused_ = problem == net::error::connection_refused;
    if (problem) co_return fail(problem, "cannot connect");
    tcp::socket::native_handle_type socket = stream_.socket().native_handle();
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    stream_.socket().set_option(net::socket_base::keep_alive(true), ignored);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepAliveIdleS, sizeof kKeepAliveIdleS);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepAliveIntervalS, sizeof kKeepAliveIntervalS);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &kKeepAliveProbes, sizeof kKeepAliveProbes);
    stream_.expires_never();
    co_return !stopped_;
  }

  net::awaitable<bool> send() {
    std::string head = fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", request_.method,
                                   request_.url.prefix, request_.path, to_string(request_.url.address));
    if (!request_.authorization.empty()) head += fmt::format("Authorization: {}\r\n", request_.authorization);
    if (request_.body) {
      head += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", request_.body->size());
    }
    head += "\r\n";
    std::array<net::const_buffer, 2> buffers = {net::buffer(head)};
    if (request_.body) buffers[1] = net::buffer(*request_.body);
    auto [failure, count] = co_await net::async_write(stream_, buffers, kToken);
    request_.body.reset();
    // A server may refuse a request before it has read it all: its answer says more than the broken pipe.
    if (failure && failure != net::error::broken_pipe && failure != net::error::connection_reset) {
      co_return fail(failure, "cannot send");
    }
    co_return !stopped_;
  }

  net::awaitable<void> receive() {
    beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    auto [head_failure, head_bytes] = co_await http::async_read_header(stream_, buffer, parser, kToken);
    if (head_failure) {
      fail(head_failure, "no answer");
      co_return;
    }
    auto type = parser.get()[http::field::content_type];
    sink_->on_head(int(parser.get().result_int()), {type.data(), type.size()});
    std::vector<char> block(kReadBytes);
    while (!parser.is_done() && !stopped_) {
      auto& body = parser.get().body();
      body.data = block.data();
      body.size = block.size();
      auto [failure, count] = co_await http::async_read_some(stream_, buffer, parser, kToken);
      size_t read = block.size() - body.size;
      if (read > 0 && !stopped_ && !sink_->on_bytes({block.data(), read})) co_await wait_for_resume();
      if (failure && failure != http::error::need_buffer) {
        fail(failure, "the answer broke off");
        co_return;
      }
    }
    if (!stopped_) done_ = true;
  }

  net::awaitable<void> wait_for_resume() {
    paused_ = true;
    while (paused_ && !stopped_) {
      wake_.expires_at(Timer::time_point::max());
      co_await wake_.async_wait(kToken);
    }
  }

  void stop(const char* reason) {
    if (stopped_ || done_) return;
    stopped_ = true;
    reason_ = reason;
    resolver_.cancel();
    stream_.close();
    wake_.cancel();
  }

  bool fail(error_code failure, const char* what) {
    if (!stopped_) reason_ = fmt::format("{}: {}", what, failure.message());
    return false;
  }

  void finish(std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const std::exception& problem) {
      done_ = false;
      reason_ = problem.what();
    }
    deadline_.cancel();
    stream_.close();
    auto sink = std::move(sink_);
    if (done_) return sink->on_end(nullptr);
    UpstreamFailure failure{refused_, reason_};
    sink->on_end(&failure);
  }

  Strand strand_;
  Stream stream_;
  net::ip::basic_resolver<tcp, Strand> resolver_;
  Timer wake_, deadline_;
  const int64_t connect_us_max_;
  UpstreamRequest request_;
  std::shared_ptr<UpstreamSink> sink_;
  std::string reason_ = "no answer";
  bool stopped_ = false, paused_ = false, refused_ = false, done_ = false;
};

class BeastClient : public UpstreamClient {
 public:
  BeastClient(int threads, int64_t connect_us_max)
      : connect_us_max_(connect_us_max), io_(threads), work_(io_.get_executor()) {
    for (int i = 0; i < threads; ++i) {
      threads_.push_back(start_thread(fmt::format("upstream {}", i), [this] { io_.run(); }));
    }
  }
  ~BeastClient() override {
    io_.stop();
    threads_.clear();  // joins
  }

  std::shared_ptr<UpstreamCall> start(UpstreamRequest request, std::shared_ptr<UpstreamSink> sink) override {
    auto call = std::make_shared<BeastCall>(io_, connect_us_max_, std::move(request), std::move(sink));
    call->start();
    return call;
  }

 private:
  const int64_t connect_us_max_;
  net::io_context io_;
  net::executor_work_guard<net::io_context::executor_type> work_;
  std::vector<std::jthread> threads_;
};

}  // namespace

std::unique_ptr<UpstreamClient> UpstreamClient::create(int threads, int64_t connect_us_max) {
  return std::make_unique<BeastClient>(threads, connect_us_max);
}

}  // namespace hylas::router
