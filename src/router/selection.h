#pragma once
// Where a request goes: the instances that may take it now, and the policy's choice among them. Belongs to the loop's
// thread.
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "router/generation_body.h"
#include "router/worker.h"

namespace hylas::router {

struct Route {
  WorkerPtr answer;   // decode, or whole
  WorkerPtr prefill;  // null with a whole instance
};

struct Selection {
  std::optional<Route> route;
  bool full = false;  // there are instances, but none has memory for the request now
};

class Selector {
 public:
  Selector(const WorkerSet& workers, const RouterOptions& options);

  // Instances in `avoid` (ids) get it only if no other can.
  Selection select(const GenerationBody& request, const std::vector<std::string>& avoid, int64_t now_us);
  uint64_t random() { return random_(); }
  // What waits for an instance is told: "no decode worker is up (http://a: connection refused)".
  std::string why_none() const;

 private:
  WorkerPtr pick(Policy policy, std::vector<WorkerPtr> among, const GenerationBody& request,
                 const std::vector<std::string>& avoid, uint64_t turn);

  const WorkerSet& workers_;
  const RouterOptions& options_;
  std::mt19937_64 random_;
  uint64_t turn_ = 0;
};

}  // namespace hylas::router
