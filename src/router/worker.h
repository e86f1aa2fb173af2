#pragma once
// An instance as the router sees it, and the set of them. All of it belongs to the loop's thread.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/circuit_breaker.h"
#include "router/health.h"
#include "router/policy.h"
#include "router/prefix_map.h"
#include "router/router_options.h"
#include "router/worker_load.h"

namespace hylas::router {

struct Worker {
  Worker(std::string id, WorkerAddress address, const RouterOptions& options);

  // It is up, in the set, and its circuit lets a request through.
  bool usable(int64_t now_us) const { return health.up() && !removed && breaker.allows(now_us); }
  uint16_t bootstrap_port() const;

  void add(uint64_t request, const Demand& demand, int64_t now_us);
  void remove(uint64_t request);
  Sent sent() const;
  Choice choice(const std::vector<uint64_t>& prefix) const;
  // A report asked for at `asked_us`: requests sent before that are in it.
  void set_load(const WorkerLoad& report, int64_t asked_us);

  const std::string id;
  const WorkerAddress address;
  const std::string url;  // of address
  bool from_file = false;
  bool removed = false;
  Health health;
  CircuitBreaker breaker;
  PrefixMap prefixes;
  std::optional<WorkerLoad> load;
  bool load_unknown = false;  // it has no /get_load: all that is known is what was sent
  std::string problem;        // why it is not up
  uint64_t requests_total = 0, failures_total = 0;

  // The monitor's.
  int64_t next_check_us = 0, load_asked_us = 0;
  bool checking = false, asking_load = false;

 private:
  struct OneSent {
    Demand demand;
    int64_t at_us = 0;
  };
  std::map<uint64_t, OneSent> sent_;
  Sent sum_;  // sequences only
  int64_t prompt_tokens_ = 0;
  int64_t report_us_ = 0;
};

using WorkerPtr = std::shared_ptr<Worker>;

class WorkerSet {
 public:
  explicit WorkerSet(const RouterOptions& options) : options_(options) {}

  const std::vector<WorkerPtr>& all() const { return workers_; }
  // kInvalid if the URL is there already.
  Result<WorkerPtr> add(const WorkerAddress& address, bool from_file);
  // By id or URL; null if there is none. Requests at it go on.
  WorkerPtr remove(const std::string& id_or_url);
  WorkerPtr find(const std::string& id_or_url) const;
  // Adds what is new in a file and removes what the file named before and does not any more.
  void follow_file(const std::vector<WorkerAddress>& wanted);
  // Of one kind, those that may get a request now.
  std::vector<WorkerPtr> usable(WorkerKind kind, int64_t now_us) const;

 private:
  const RouterOptions& options_;
  std::vector<WorkerPtr> workers_;
  uint64_t last_id_ = 0;
};

}  // namespace hylas::router
