#pragma once
// The life of a request in the router: it waits for an instance with memory, is tried, tried again elsewhere, and
// answered. Belongs to the loop's thread.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "router/attempt.h"
#include "router/metrics.h"
#include "router/selection.h"

namespace hylas::router {

struct RoutedRequest {
  std::string path;
  std::shared_ptr<const std::string> body;
  GenerationBody read;
  std::string authorization;  // for the instances
  std::shared_ptr<HttpReply> reply;
};

class Dispatcher {
 public:
  // `suspect`: a connection to that instance broke, or was refused.
  using Suspect = std::function<void(const WorkerPtr&, bool refused)>;
  Dispatcher(EventLoop& loop, UpstreamClient& client, Selector& selector, RouterMetrics& metrics,
             const RouterOptions& options, Suspect suspect);

  void submit(RoutedRequest request);
  // Sends what can be sent now, the oldest first.
  void pump();
  // Ends what has waited or run for too long.
  void tick(int64_t now_us);
  // Requests at it that have no answer yet are tried elsewhere.
  void worker_down(const WorkerPtr& worker);
  void stop_taking() { stopping_ = true; }
  void abort_all();

  size_t waiting() const { return waiting_.size(); }
  size_t active() const { return active_; }
  // Requests wait because instances are full.
  bool waits_for_memory() const { return full_; }

 private:
  struct Job;
  void start(Job& job, Route route);
  UpstreamRequest request_to(const Job& job, const Worker& worker, std::shared_ptr<const std::string> body) const;
  void side_ended(const WorkerPtr& worker, uint64_t attempt, const SideEnd& end);
  void attempt_ended(uint64_t job, AttemptEnd end);
  void retry(Job& job, const AttemptEnd& end);
  void client_gone(uint64_t job);
  void refuse(Job& job, int status, const std::string& message, const char* outcome);
  void finish(Job& job, const char* outcome, int status);

  EventLoop& loop_;
  UpstreamClient& client_;
  Selector& selector_;
  RouterMetrics& metrics_;
  const RouterOptions& options_;
  Suspect suspect_;
  std::map<uint64_t, std::shared_ptr<Job>> jobs_;
  std::map<uint64_t, std::shared_ptr<Job>> waiting_;  // those of jobs_ without an attempt, by age
  uint64_t last_job_ = 0, last_attempt_ = 0;
  size_t active_ = 0;
  bool stopping_ = false, full_ = false;
  int64_t none_since_us_ = 0;  // no instance is up since then; 0: there is one
  int64_t next_sweep_us_ = 0;
};

}  // namespace hylas::router
