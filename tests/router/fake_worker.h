#pragma once
// An instance without a model: the test says how it answers. Over real sockets.
#include <atomic>
#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "router/worker_load.h"
#include "serve/http.h"

namespace hylas::test {

using ReplyPtr = std::shared_ptr<HttpReply>;

class FakeWorker {
 public:
  // Called on an http thread with each request that generates.
  using Handler = std::function<void(const HttpRequest&, const ReplyPtr&)>;

  // `port` 0: any free one.
  explicit FakeWorker(router::WorkerKind kind, uint16_t port = 0);
  ~FakeWorker();

  uint16_t port() const { return server_->port(); }
  std::string url() const;
  const router::WorkerKind kind;

  void on_generate(Handler handler);  // at first: {"text": "from PORT"}
  void answer(int status, std::string json);
  void set_health(int status);
  void set_load(router::WorkerLoad load);
  void set_plain() { plain_ = true; }  // it has no /get_load

  size_t seen() const;
  std::vector<HttpRequest> requests() const;  // that generate
  boost::json::object body(size_t index) const;
  std::vector<std::string> authorizations() const;  // of all requests
  bool wait_for_requests(size_t count);
  size_t connections() const { return server_->connections(); }

 private:
  void handle(HttpRequest request, ReplyPtr reply);
  std::string load_json() const;

  mutable std::mutex mutex_;
  Handler handler_;
  int health_ = 200;
  std::atomic<bool> plain_{false};
  router::WorkerLoad load_;
  std::vector<HttpRequest> requests_;
  std::vector<std::string> authorizations_;
  std::unique_ptr<HttpServer> server_;
};

// A port where every connection is reset as soon as it comes.
class ResettingPort {
 public:
  ResettingPort();
  ~ResettingPort();
  std::string url() const;
  int connections() const { return connections_; }

 private:
  int socket_;
  uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  std::jthread thread_;
};

// Waits until `condition` is true, at most 10 s.
bool eventually(const std::function<bool()>& condition);

}  // namespace hylas::test
