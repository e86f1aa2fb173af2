#pragma once
// HTTP calls to instances behind a plain interface, many at a time on a few threads. Boost.Beast is inside
// upstream_beast.cc only.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/base_url.h"

namespace hylas::router {

struct UpstreamRequest {
  BaseUrl url;
  std::string method = "GET";
  std::string path;                         // with its query
  std::shared_ptr<const std::string> body;  // null: none
  std::string authorization;                // that header; empty: none
  int64_t time_us_max = 0;                  // for all of it; 0: as long as it takes
};

struct UpstreamFailure {
  bool refused = false;  // nobody listens there: nothing was sent
  std::string reason;
};

// What comes of one call. Called on the client's threads, one call at a time; must not block.
class UpstreamSink {
 public:
  virtual ~UpstreamSink() = default;
  virtual void on_head(int status, std::string_view content_type) = 0;
  // False: nothing more is read until the call's resume().
  virtual bool on_bytes(std::string_view bytes) = 0;
  // The last call, exactly once, also after cancel(); null: the answer came to its end.
  virtual void on_end(const UpstreamFailure* failure) = 0;
};

// Thread-safe.
class UpstreamCall {
 public:
  virtual ~UpstreamCall() = default;
  virtual void resume() = 0;
  // Closes the connection.
  virtual void cancel() = 0;
};

// Thread-safe. The destructor closes all connections; sinks of calls that run then hear no more.
class UpstreamClient {
 public:
  virtual ~UpstreamClient() = default;
  static std::unique_ptr<UpstreamClient> create(int threads, int64_t connect_us_max);
  // The sink is held until its on_end has been called.
  virtual std::shared_ptr<UpstreamCall> start(UpstreamRequest request, std::shared_ptr<UpstreamSink> sink) = 0;
};

}  // namespace hylas::router
