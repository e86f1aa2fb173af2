#pragma once
// Asks instances whether they are up and how loaded they are. Belongs to the loop's thread.
#include <functional>
#include <string>

#include "router/event_loop.h"
#include "router/upstream.h"
#include "router/worker.h"

namespace hylas::router {

class Monitor {
 public:
  struct Events {
    std::function<void()> changed;  // an instance came up, or has reported its load
    std::function<void(const WorkerPtr&)> went_down;
  };
  Monitor(EventLoop& loop, UpstreamClient& client, WorkerSet& workers, const RouterOptions& options, Events events);

  // Does what is due. `busy`: requests wait for memory that instances report.
  void tick(int64_t now_us, bool busy);
  // A connection to it broke or was refused: it is checked now.
  void suspect(const WorkerPtr& worker, bool refused);

 private:
  UpstreamRequest request_to(const Worker& worker, const std::string& path) const;
  void check(const WorkerPtr& worker);
  void ask_load(const WorkerPtr& worker, bool decides_health);
  void take_load(const WorkerPtr& worker, int64_t asked_us, const struct Fetched& fetched, bool decides_health);
  void succeeded(const WorkerPtr& worker);
  void failed(const WorkerPtr& worker, bool gone, const std::string& problem);

  EventLoop& loop_;
  UpstreamClient& client_;
  WorkerSet& workers_;
  const RouterOptions& options_;
  Events events_;
};

}  // namespace hylas::router
