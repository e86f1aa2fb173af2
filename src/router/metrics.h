#pragma once
// Prometheus metrics of a router, with the prefix "hylas_router:".
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <string>

#include "router/attempt.h"
#include "router/worker.h"

namespace hylas::router {

// Thread-safe but for render(), which reads the workers: on the loop.
class RouterMetrics {
 public:
  RouterMetrics();

  // `outcome`: answered, failed, broken (off in a stream), client_gone, rejected.
  void request_ended(const std::string& endpoint, const char* outcome, int status, int64_t total_us);
  void started(int64_t queued_us);
  void first_byte(int64_t wait_us);
  void retried() { retries_.Increment(); }
  void side_ended(const Worker& worker, SideEnd::Verdict verdict);

  std::string render(const WorkerSet& workers, size_t waiting, size_t active, int64_t now_us) const;

 private:
  prometheus::Family<prometheus::Counter>& counter(const char* name, const char* help);
  prometheus::Histogram& histogram(const char* name, const char* help);

  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& worker_requests_;
  prometheus::Counter& retries_;
  prometheus::Histogram& request_s_;
  prometheus::Histogram& first_byte_s_;
  prometheus::Histogram& queue_s_;
};

}  // namespace hylas::router
