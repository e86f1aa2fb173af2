// HTTP on Boost.Beast: one coroutine for each connection, on a strand of its own; answers arrive through ReplyBuffer.
// The only file that includes Beast or Asio.
#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <mutex>

#include "base/log.h"
#include "base/net.h"
#include "base/thread.h"
#include "serve/http.h"
#include "serve/reply_buffer.h"

namespace hylas {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
using tcp = net::ip::tcp;
using Strand = net::strand<net::io_context::executor_type>;
using Socket = net::basic_stream_socket<tcp, Strand>;
using Stream = boost::beast::basic_stream<tcp, Strand>;
using Timer = net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>, Strand>;
using Parser = http::request_parser<http::string_body>;
using boost::system::error_code;
using std::chrono::microseconds;
using net::experimental::awaitable_operators::operator||;
constexpr auto kToken = net::as_tuple(net::use_awaitable);
constexpr size_t kReadBytes = 8 << 10;
constexpr size_t kPipelinedBytesMax = 64 << 10;  // of following requests, read while one is answered
constexpr int64_t kLingerUs = 2'000'000;

// What all connections share.
struct ServerState {
  HttpOptions options;
  HttpHandler handler;
  HttpErrorBody error_body;
  std::atomic<bool> stopping{false};
  std::atomic<size_t> connections{0};
  std::mutex mutex;
  std::condition_variable idle;
  size_t active = 0;  // requests being read or answered; guarded by mutex
};

// Counts a request as active while it lives.
class ActiveRequest {
 public:
  explicit ActiveRequest(ServerState& server) : server_(server) {
    std::lock_guard lock(server_.mutex);
    ++server_.active;
  }
  ~ActiveRequest() {
    std::lock_guard lock(server_.mutex);
    if (--server_.active == 0) server_.idle.notify_all();
  }
  ActiveRequest(const ActiveRequest&) = delete;

 private:
  ServerState& server_;
};

struct Detach {
  std::shared_ptr<ReplyBuffer> buffer;
  bool sent = false;
  ~Detach() { buffer->detach(sent); }
};

class Connection {
 public:
  Connection(Socket socket, ServerState& server) : stream_(std::move(socket)), server_(server) {
    ++server_.connections;
  }
  ~Connection() { --server_.connections; }
  Connection(const Connection&) = delete;

  net::awaitable<void> run() {
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    stream_.socket().non_blocking(true, ignored);
    while (co_await one_request()) {
    }
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
  }

 private:
  // True if the connection can take another request.
  net::awaitable<bool> one_request() {
    if (input_.size() == 0) {
      stream_.expires_after(microseconds(server_.options.idle_timeout_us));
      auto [failure, count] = co_await stream_.async_read_some(input_.prepare(kReadBytes), kToken);
      if (failure) co_return false;
      input_.commit(count);
    }
    ActiveRequest active(server_);
    stream_.expires_after(microseconds(server_.options.read_timeout_us));
    Parser parser;
    parser.header_limit(uint32_t(server_.options.header_bytes_max));
    parser.body_limit(server_.options.body_bytes_max);
    auto [header_failure, header_bytes] = co_await http::async_read_header(stream_, input_, parser, kToken);
    if (header_failure) co_return co_await reject(header_failure);
    if (boost::beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      if (!co_await write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
      stream_.expires_after(microseconds(server_.options.read_timeout_us));
    }
    auto [body_failure, body_bytes] = co_await http::async_read(stream_, input_, parser, kToken);
    if (body_failure) co_return co_await reject(body_failure);
    co_return co_await answer(parser.release());
  }

  net::awaitable<bool> answer(http::request<http::string_body> message) {
    http10_ = message.version() < 11;
    head_only_ = message.method() == http::verb::head;
    keep_alive_ = message.keep_alive();
    auto wake = std::make_shared<Timer>(stream_.get_executor(), Timer::time_point::max());
    auto buffer = std::make_shared<ReplyBuffer>(
        server_.options.stream_buffer_bytes_max,
        [wake, strand = stream_.get_executor()] { net::post(strand, [wake] { wake->cancel(); }); });
    Detach detach{buffer};
    server_.handler(to_request(std::move(message)), make_reply(buffer));
    auto first = co_await (send(*buffer, *wake) || watch());
    detach.sent = first.index() == 0 && std::get<0>(first);
    co_return detach.sent&& keep_alive_;
  }

  // Sends what the buffer gives until its end. False: it could not all be sent.
  net::awaitable<bool> send(ReplyBuffer& buffer, Timer& wake) {
    bool head_sent = false, chunked = false;
    while (true) {
      std::optional<ReplyBuffer::Work> work = buffer.take();
      if (!work) {
        wake.expires_at(Timer::time_point::max());
        co_await wake.async_wait(kToken);
        continue;
      }
      std::string out;
      if (!head_sent) {
        if (!work->head) work = no_answer();
        chunked = work->head->stream && !http10_;
        if (server_.stopping || (work->head->stream && http10_)) keep_alive_ = false;
        out = head_text(*work->head, work->bytes.size());
        head_sent = true;
      } else if (work->broken) {
        co_return false;
      }
      if (!head_only_) add_body(out, work->bytes, chunked, work->ended && !work->broken);
      if (!out.empty() && !co_await write(out)) co_return false;
      if (work->ended) co_return !work->broken;
    }
  }

  // Reads on while a request is answered: what comes is kept for the next one. Ends when the client closes its side,
  // which is how a disconnect shows.
  net::awaitable<void> watch() {
    while (true) {
      auto [failure] = co_await stream_.socket().async_wait(tcp::socket::wait_read, kToken);
      if (failure) break;
      if (input_.size() >= kPipelinedBytesMax) {  // no further: whether this client is there shows when sending fails
        Timer forever(stream_.get_executor(), Timer::time_point::max());
        co_await forever.async_wait(kToken);
        break;
      }
      error_code problem;
      size_t count = stream_.socket().receive(input_.prepare(kReadBytes), 0, problem);
      if (problem == net::error::would_block) continue;
      if (problem) {
        stream_.close();  // ends a write under way
        break;
      }
      input_.commit(count);
    }
  }

  net::awaitable<bool> write(std::string_view bytes) {
    stream_.expires_after(microseconds(server_.options.write_timeout_us));
    auto [failure, count] = co_await net::async_write(stream_, net::buffer(bytes), kToken);
    co_return !failure;
  }

  // Answers what is no request, if there is somebody to answer. Always false.
  net::awaitable<bool> reject(error_code failure) {
    if (failure.category() != make_error_code(http::error::bad_method).category()) co_return false;
    if (failure == http::error::end_of_stream || failure == http::error::partial_message) co_return false;
    int status = 400;
    std::string reason = "malformed HTTP: " + failure.message();
    if (failure == http::error::body_limit) {
      status = 413;
      reason = fmt::format("the request body is longer than {} bytes", server_.options.body_bytes_max);
    } else if (failure == http::error::header_limit) {
      status = 431;
      reason = fmt::format("the request header is longer than {} bytes", server_.options.header_bytes_max);
    }
    keep_alive_ = false;
    std::string body = server_.error_body(status, reason);
    std::string out = head_text({.status = status, .content_type = "application/json"}, body.size()) + body;
    if (co_await write(out)) co_await linger();
    co_return false;
  }

  // Closing with unread input would make the system drop the answer: read on for a moment.
  net::awaitable<void> linger() {
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(microseconds(kLingerUs));
    std::string scratch(kReadBytes, '\0');
    while (true) {
      auto [failure, count] = co_await stream_.async_read_some(net::buffer(scratch), kToken);
      if (failure) co_return;
    }
  }

  ReplyBuffer::Work no_answer() const {
    return {.head = ReplyHead{.status = 500, .content_type = "application/json"},
            .bytes = server_.error_body(500, "the server gave no answer"),
            .ended = true};
  }

  std::string head_text(const ReplyHead& head, size_t body_bytes) const {
    auto status = http::obsolete_reason(http::int_to_status(unsigned(head.status)));
    std::string text = fmt::format("HTTP/1.1 {} {}\r\nAccess-Control-Allow-Origin: *\r\n", head.status,
                                   std::string_view(status.data(), status.size()));
    if (!head.content_type.empty()) text += fmt::format("Content-Type: {}\r\n", head.content_type);
    for (const auto& [name, value] : head.headers) text += fmt::format("{}: {}\r\n", name, value);
    if (head.stream) {
      text += "Cache-Control: no-cache\r\n";
      if (!http10_) text += "Transfer-Encoding: chunked\r\n";
    } else if (head.status != 204) {
      text += fmt::format("Content-Length: {}\r\n", body_bytes);
    }
    text += keep_alive_ ? (http10_ ? "Connection: keep-alive\r\n" : "") : "Connection: close\r\n";
    return text + "\r\n";
  }

  static void add_body(std::string& out, std::string_view bytes, bool chunked, bool last) {
    if (!chunked) {
      out += bytes;
      return;
    }
    if (!bytes.empty()) {
      out += fmt::format("{:x}\r\n", bytes.size());
      out += bytes;
      out += "\r\n";
    }
    if (last) out += "0\r\n\r\n";
  }

  static HttpRequest to_request(http::request<http::string_body> message) {
    auto text = [](auto view) { return std::string(view.data(), view.size()); };
    std::string target = text(message.target());
    size_t mark = std::min(target.find('?'), target.size());
    return {.method = text(message.method_string()),
            .path = target.substr(0, mark),
            .query = mark < target.size() ? target.substr(mark + 1) : "",
            .body = std::move(message.body()),
            .authorization = text(message[http::field::authorization])};
  }

  Stream stream_;
  ServerState& server_;
  boost::beast::flat_buffer input_;
  bool http10_ = false, head_only_ = false, keep_alive_ = true;
};

net::awaitable<void> serve_connection(Socket socket, ServerState& server) {
  Connection connection(std::move(socket), server);
  co_await connection.run();
}

class BeastServer : public HttpServer {
 public:
  explicit BeastServer(const HttpOptions& options)
      : io_(options.threads), strand_(io_.get_executor()), acceptor_(strand_) {
    state_.options = options;
  }
  ~BeastServer() override {
    io_.stop();
    threads_.clear();  // joins
  }

  Status bind_address() {
    const HttpOptions& options = state_.options;
    std::string address = to_string(HostPort{options.host, options.port});
    error_code failure;
    tcp::resolver resolver(io_);
    auto found = resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, failure);
    if (failure) return error(ErrorCode::kIo, "cannot listen on {}: {}", address, failure.message());
    tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), failure);
    if (!failure) acceptor_.set_option(tcp::acceptor::reuse_address(true), failure);
    if (!failure) acceptor_.bind(endpoint, failure);
    return check(failure, address);
  }

  Status start(HttpHandler handler, HttpErrorBody error_body) override {
    state_.handler = std::move(handler);
    state_.error_body = std::move(error_body);
    error_code failure;
    acceptor_.listen(4096, failure);
    HYLAS_TRY(check(failure, to_string(HostPort{state_.options.host, state_.options.port})));
    net::co_spawn(strand_, accept(), net::detached);
    for (int i = 0; i < state_.options.threads; ++i) {
      threads_.push_back(start_thread(fmt::format("http {}", i), [this] { io_.run(); }));
    }
    return {};
  }

  uint16_t port() const override {
    error_code ignored;
    return acceptor_.local_endpoint(ignored).port();
  }
  size_t connections() const override { return state_.connections; }
  void stop_accepting() override {
    state_.stopping = true;
    net::post(strand_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
    });
  }
  bool wait_idle(int64_t timeout_us) override {
    std::unique_lock lock(state_.mutex);
    return state_.idle.wait_for(lock, microseconds(timeout_us), [this] { return state_.active == 0; });
  }

 private:
  static Status check(error_code failure, const std::string& address) {
    if (!failure) return {};
    bool in_use = failure == net::error::address_in_use;
    return error(ErrorCode::kIo, "cannot listen on {}: {}{}", address, failure.message(),
                 in_use ? "; choose another --port" : "");
  }

  net::awaitable<void> accept() {
    while (acceptor_.is_open()) {
      auto [failure, socket] = co_await acceptor_.async_accept(net::make_strand(io_), kToken);
      if (failure == net::error::operation_aborted) co_return;
      if (failure) {  // out of file descriptors, most likely
        log::warn("cannot accept a connection: {}", failure.message());
        net::steady_timer pause(io_, std::chrono::milliseconds(100));
        co_await pause.async_wait(kToken);
        continue;
      }
      if (state_.connections >= state_.options.connections_max) continue;  // closes it
      auto executor = socket.get_executor();
      net::co_spawn(executor, serve_connection(std::move(socket), state_), [](std::exception_ptr thrown) {
        try {
          if (thrown) std::rethrow_exception(thrown);
        } catch (const std::exception& problem) {
          log::error("a connection failed: {}", problem.what());
        }
      });
    }
  }

  ServerState state_;
  net::io_context io_;  // destroyed before state_: its coroutines refer to that
  Strand strand_;
  net::basic_socket_acceptor<tcp, Strand> acceptor_;
  std::vector<std::jthread> threads_;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::bind(const HttpOptions& options) {
  auto server = std::make_unique<BeastServer>(options);
  HYLAS_TRY(server->bind_address());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace hylas
