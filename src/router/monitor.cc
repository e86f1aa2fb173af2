#include "router/monitor.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "router/fetch.h"

namespace hylas::router {
namespace {

constexpr int64_t kDownIntervalUs = 500'000;   // of one that is down: a replacement should serve soon
constexpr int64_t kHungryIntervalUs = 20'000;  // while requests wait for memory

}  // namespace

Monitor::Monitor(EventLoop& loop, UpstreamClient& client, WorkerSet& workers, const RouterOptions& options,
                 Events events)
    : loop_(loop), client_(client), workers_(workers), options_(options), events_(std::move(events)) {}

UpstreamRequest Monitor::request_to(const Worker& worker, const std::string& path) const {
  UpstreamRequest request{.url = worker.address.url, .path = path, .time_us_max = options_.health.timeout_us};
  if (!options_.worker_api_key.empty()) request.authorization = "Bearer " + options_.worker_api_key;
  return request;
}

void Monitor::tick(int64_t now_us, bool busy) {
  for (const WorkerPtr& worker : std::vector<WorkerPtr>(workers_.all())) {
    if (!worker->checking && now_us >= worker->next_check_us) check(worker);
    if (!worker->health.up() || worker->load_unknown || worker->asking_load) continue;
    bool at_work = worker->sent().sequences > 0;
    int64_t interval_us = at_work ? options_.health.load_interval_us : options_.health.interval_us;
    if (busy) interval_us = std::min(interval_us, kHungryIntervalUs);
    if (now_us >= worker->load_asked_us + interval_us) ask_load(worker, false);
  }
}

void Monitor::suspect(const WorkerPtr& worker, bool refused) {
  if (worker->removed) return;
  if (refused) failed(worker, true, "connection refused");
  if (!worker->checking) check(worker);
}

void Monitor::check(const WorkerPtr& worker) {
  worker->checking = true;
  int64_t interval_us = options_.health.interval_us;
  if (!worker->health.up()) interval_us = std::min(interval_us, kDownIntervalUs);
  worker->next_check_us = now_us() + interval_us;
  fetch(client_, loop_, request_to(*worker, options_.health.path), [this, worker](Fetched fetched) {
    worker->checking = false;
    if (worker->removed) return;
    if (fetched.failure) {
      failed(worker, fetched.failure->refused, fetched.failure->reason);
    } else if (fetched.status != 200) {
      failed(worker, false, fmt::format("{} answers {}", options_.health.path, fetched.status));
    } else if (worker->health.up()) {
      succeeded(worker);
    } else {
      // What it is must be known before it gets a request; it may have come back as another.
      worker->load_unknown = false;
      ask_load(worker, true);
    }
  });
}

void Monitor::ask_load(const WorkerPtr& worker, bool decides_health) {
  if (worker->asking_load) return;
  worker->asking_load = true;
  int64_t asked_us = now_us();
  worker->load_asked_us = asked_us;
  fetch(client_, loop_, request_to(*worker, "/get_load"), [this, worker, asked_us, decides_health](Fetched fetched) {
    worker->asking_load = false;
    if (!worker->removed) take_load(worker, asked_us, fetched, decides_health);
  });
}

void Monitor::take_load(const WorkerPtr& worker, int64_t asked_us, const Fetched& fetched, bool decides_health) {
  if (fetched.failure) {
    if (decides_health || fetched.failure->refused) failed(worker, fetched.failure->refused, fetched.failure->reason);
    return;
  }
  if (fetched.status == 401 || fetched.status == 403) {
    return failed(worker, true, "it asks for another API key: see --worker-api-key");
  }
  auto load = parse_load(fetched.body);
  if (fetched.status == 200 && load.ok()) {
    if (load->role != worker->address.kind) {
      return failed(
          worker, true,
          fmt::format("it is no {} instance: it says {}", kind_name(worker->address.kind), kind_name(load->role)));
    }
    worker->set_load(*load, asked_us);
  } else if (fetched.status < 500) {
    worker->load.reset();  // a server of another kind
    worker->load_unknown = true;
  }
  if (worker->address.kind == WorkerKind::kPrefill && worker->bootstrap_port() == 0) {
    return failed(worker, true, "its bootstrap port is not known: give it after the URL");
  }
  if (decides_health) succeeded(worker);
  events_.changed();
}

void Monitor::succeeded(const WorkerPtr& worker) {
  if (!worker->health.succeeded()) return;
  worker->problem.clear();
  worker->breaker.reset();
  log::info("{} worker {} is up", kind_name(worker->address.kind), worker->url);
  events_.changed();
}

void Monitor::failed(const WorkerPtr& worker, bool gone, const std::string& problem) {
  bool new_problem = worker->problem != problem;
  worker->problem = problem;
  if (worker->health.failed(gone)) {
    log::warn("{} worker {} is down: {}", kind_name(worker->address.kind), worker->url, problem);
    worker->next_check_us = std::min(worker->next_check_us, now_us() + kDownIntervalUs);
    events_.went_down(worker);
  } else if (!worker->health.up() && new_problem) {
    log::warn("{} worker {} is not up yet: {}", kind_name(worker->address.kind), worker->url, problem);
  }
}

}  // namespace hylas::router
