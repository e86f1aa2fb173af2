#pragma once
// The router: HTTP in, instances out. Wires the parts together and owns them.
#include <atomic>
#include <memory>
#include <optional>

#include "router/dispatcher.h"
#include "router/event_loop.h"
#include "router/metrics.h"
#include "router/monitor.h"
#include "router/router_options.h"
#include "router/selection.h"
#include "router/upstream.h"
#include "router/workers_file.h"
#include "serve/http.h"
#include "serve/worker_pool.h"

namespace hylas::router {

// What every route works with. All but the options, the loop, the client, the pool and `stopping` belongs to the loop.
struct RouterContext {
  RouterContext(EventLoop& loop, RouterOptions options);

  // Pairs or whole instances are up.
  bool ready() const;

  const RouterOptions options;
  EventLoop& loop;
  std::unique_ptr<UpstreamClient> client;
  WorkerSet workers;
  RouterMetrics metrics;
  Selector selector;
  Dispatcher dispatcher;
  Monitor monitor;
  uint64_t forwards = 0;  // whose turn it is
  std::atomic<bool> stopping{false};
  WorkerPool pool;  // reads bodies; last: its threads use the others
};

class RouterServer {
 public:
  RouterServer(std::unique_ptr<HttpServer> http, RouterOptions options);
  // Closes what is open.
  ~RouterServer();

  // kInvalid: no workers, one twice, or a bad workers file.
  Status start();
  uint16_t port() const { return http_->port(); }
  // Takes no more requests and waits for those under way; what is left after `timeout_us` ends with an error.
  void stop(int64_t timeout_us);
  // What is under way ends with an error now. From any thread.
  void abort_all();

 private:
  void tick();
  void read_workers_file();
  Status add_workers();

  EventLoop loop_;
  std::unique_ptr<RouterContext> context_;
  std::optional<WorkersFile> file_;
  int64_t next_file_us_ = 0;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace hylas::router
