#pragma once
// The HTTP/1.1 server behind a plain interface: requests in, one answer each, streamed or whole. Boost.Beast is inside
// http_beast.cc only. The server knows nothing of JSON, routes or engines.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hylas {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  // 0: any free one, see HttpServer::port
  int threads = 1;
  size_t header_bytes_max = 64 << 10;
  size_t body_bytes_max = size_t{64} << 20;
  size_t stream_buffer_bytes_max = 8 << 20;  // unsent bytes of a stream; a client slower than that is dropped
  size_t connections_max = 4096;
  int64_t idle_timeout_us = 75'000'000;   // between requests of a connection
  int64_t read_timeout_us = 60'000'000;   // from the first byte of a request to its last
  int64_t write_timeout_us = 60'000'000;  // for one piece of an answer
};

struct HttpRequest {
  std::string method;  // as sent, "GET"
  std::string path;    // of the target, without the query; not decoded
  std::string query;   // after '?'
  std::string body;
  std::string authorization;  // that header, or empty
};

// The answer to one request: either reply() once, or begin_stream(), write()..., end(). Any thread may call; calls
// after the end or after the client went away are ignored. Dropping the last reference without an answer gives 500.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  using Headers = std::vector<std::pair<std::string, std::string>>;

  virtual void reply(int status, std::string_view content_type, std::string body, Headers headers = {}) = 0;
  // Status 200 and chunked transfer.
  virtual void begin_stream(std::string_view content_type) = 0;
  // False once the client is gone.
  virtual bool write(std::string_view bytes) = 0;
  virtual void end() = 0;

  // `gone` is called once, on an http thread, if the client goes away before the answer is sent; at once if it has.
  // Must not block.
  virtual void on_gone(std::function<void()> gone) = 0;
  virtual bool gone() const = 0;

  // For a writer that waits for a slow client instead of filling the buffer: what write() took and the connection has
  // not. `writable` is called once, on any thread, when that is nothing any more or the client is gone; at once if it
  // is so already. Must not block.
  virtual size_t unsent_bytes() const { return 0; }
  virtual void on_writable(std::function<void()> writable) { writable(); }

  void reply_json(int status, std::string json) { reply(status, "application/json", std::move(json)); }
};

// Called on an http thread: must hand the work on and not block.
using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<HttpReply>)>;
// The body of the answer to a request that never reached the handler (malformed, too large, too slow).
using HttpErrorBody = std::function<std::string(int status, const std::string& message)>;

// Members are thread-safe. The destructor closes what is open.
class HttpServer {
 public:
  virtual ~HttpServer() = default;
  // Takes the address; nobody can connect before start(). kIo: in use, not this machine's, not permitted.
  static Result<std::unique_ptr<HttpServer>> bind(const HttpOptions& options);

  virtual Status start(HttpHandler handler, HttpErrorBody error_body) = 0;
  virtual uint16_t port() const = 0;
  // No new connections from now on, and connections end with their current answer.
  virtual void stop_accepting() = 0;
  // Waits until no request is being read or answered. False: `timeout_us` passed before.
  virtual bool wait_idle(int64_t timeout_us) = 0;
  virtual size_t connections() const = 0;
};

}  // namespace hylas
