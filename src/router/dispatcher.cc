#include "router/dispatcher.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/log.h"
#include "serve/api_error.h"

namespace hylas::router {
namespace {

constexpr int64_t kSweepUs = 500'000;

// An instance that failed is not the first choice for the next tries.
constexpr size_t kAvoidedMax = 4;

}  // namespace

int64_t backoff_us(const RetryOptions& retry, int number, double random) {
  double wait_us = double(retry.first_us) * std::pow(retry.multiplier, number - 1);
  wait_us = std::min(wait_us, double(retry.longest_us));
  return int64_t(wait_us * (1 + retry.jitter * (2 * random - 1)));
}

struct Dispatcher::Job {
  uint64_t id = 0;
  RoutedRequest request;
  int64_t arrival_us = 0;
  int64_t waiting_since_us = 0;
  int64_t not_before_us = 0;  // of a retry
  int tries = 0;
  bool last_try = false;
  Route route;  // of the attempt
  std::shared_ptr<Attempt> attempt;
  std::vector<std::string> avoid;
};

Dispatcher::Dispatcher(EventLoop& loop, UpstreamClient& client, Selector& selector, RouterMetrics& metrics,
                       const RouterOptions& options, Suspect suspect)
    : loop_(loop),
      client_(client),
      selector_(selector),
      metrics_(metrics),
      options_(options),
      suspect_(std::move(suspect)) {}

void Dispatcher::submit(RoutedRequest request) {
  auto job = std::make_shared<Job>();
  job->id = ++last_job_;
  job->request = std::move(request);
  job->arrival_us = job->waiting_since_us = now_us();
  jobs_.emplace(job->id, job);
  if (stopping_) return refuse(*job, 503, "the router is stopping", "rejected");
  waiting_.emplace(job->id, job);
  pump();
  if (job->tries == 0 && int64_t(waiting_.size()) > options_.queue.waiting_max && waiting_.contains(job->id)) {
    return refuse(*job, 429, fmt::format("{} requests wait already (--queue-size)", waiting_.size() - 1), "rejected");
  }
  job->request.reply->on_gone([this, id = job->id] { loop_.post([this, id] { client_gone(id); }); });
}

void Dispatcher::pump() {
  int64_t at_us = now_us();
  full_ = false;
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    std::shared_ptr<Job> job = next->second;
    if (job->not_before_us > at_us) {
      ++next;
      continue;
    }
    if (options_.queue.concurrent_max >= 0 && int64_t(active_) >= options_.queue.concurrent_max) return;
    Selection selected = selector_.select(job->request.read, job->avoid, at_us);
    full_ = selected.full;
    if (!selected.route) {
      if (full_) none_since_us_ = 0;
      if (!full_ && none_since_us_ == 0) none_since_us_ = at_us;
      return;  // the oldest goes first
    }
    none_since_us_ = 0;
    next = waiting_.erase(next);
    start(*job, std::move(*selected.route));
  }
}

UpstreamRequest Dispatcher::request_to(const Job& job, const Worker& worker,
                                       std::shared_ptr<const std::string> body) const {
  return {.url = worker.address.url,
          .method = "POST",
          .path = job.request.path,
          .body = std::move(body),
          .authorization = job.request.authorization};
}

void Dispatcher::start(Job& job, Route route) {
  int64_t at_us = now_us();
  if (job.tries++ == 0) metrics_.started(at_us - job.arrival_us);
  ++active_;
  uint64_t id = ++last_attempt_;
  std::shared_ptr<const std::string> body = job.request.body;
  if (route.prefill) {
    body = std::make_shared<const std::string>(with_bootstrap(
        *body,
        {route.prefill->address.url.address.host, route.prefill->bootstrap_port(), room_of(selector_.random())}));
  }
  for (const WorkerPtr& worker : {route.answer, route.prefill}) {
    if (!worker) continue;
    worker->add(id, job.request.read.demand, at_us);
    worker->breaker.sent(at_us);
  }
  job.route = route;
  Attempt::Events events{.side_ended =
                             [this, route, id](Side side, const SideEnd& end) {
                               side_ended(side == Side::kAnswer ? route.answer : route.prefill, id, end);
                             },
                         .ended = [this, job = job.id](AttemptEnd end) { attempt_ended(job, std::move(end)); }};
  job.attempt = std::make_shared<Attempt>(loop_, job.request.reply, std::move(events));
  std::optional<UpstreamRequest> prefill;
  if (route.prefill) {
    prefill = request_to(job, *route.prefill, body);
    prefill->time_us_max = options_.request_us_max;
  }
  job.attempt->start(client_, request_to(job, *route.answer, body), std::move(prefill));
}

void Dispatcher::side_ended(const WorkerPtr& worker, uint64_t attempt, const SideEnd& end) {
  using Verdict = SideEnd::Verdict;
  int64_t at_us = now_us();
  worker->remove(attempt);
  metrics_.side_ended(*worker, end.verdict);
  auto before = worker->breaker.state(at_us);
  bool failed = end.verdict == Verdict::kFailed || end.verdict == Verdict::kRefused || end.verdict == Verdict::kBroken;
  if (failed) {
    worker->breaker.failed(at_us);
  } else if (end.verdict == Verdict::kGood) {
    worker->breaker.succeeded(at_us);
  } else {
    worker->breaker.unknown();
  }
  auto after = worker->breaker.state(at_us);
  if (after != before && after == CircuitBreaker::State::kOpen) {
    log::warn("{} worker {} gets no requests for {} s: too many failures, the last one: {}",
              kind_name(worker->address.kind), worker->url, options_.breaker.open_us / 1'000'000, end.reason);
  } else if (after != before && after == CircuitBreaker::State::kClosed) {
    log::info("{} worker {} works again", kind_name(worker->address.kind), worker->url);
  }
  if (end.verdict == Verdict::kRefused || end.verdict == Verdict::kBroken) {
    suspect_(worker, end.verdict == Verdict::kRefused);
  }
  loop_.post([this] { pump(); });
}

void Dispatcher::attempt_ended(uint64_t id, AttemptEnd end) {
  auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  std::shared_ptr<Job> job = found->second;
  --active_;
  if (end.first_byte_us > 0) metrics_.first_byte(end.first_byte_us - job->arrival_us);
  if (end.kind == AttemptEnd::Kind::kAnswered) return finish(*job, "answered", end.status);
  if (end.kind == AttemptEnd::Kind::kBroken) {
    log::warn("a stream of {} broke off: {}", job->route.answer->url, end.reason);
    return finish(*job, "broken", end.status);
  }
  if (!job->last_try && job->tries <= options_.retry.retries_max) return retry(*job, end);
  int status = end.status != 0 ? end.status : 502;
  log::warn("a request failed after {} tries: {}", job->tries, end.reason);
  if (end.body.empty()) {
    std::string message =
        fmt::format("no answer after {} tries, the last one at {}: {}", job->tries, job->route.answer->url, end.reason);
    return refuse(*job, status, job->last_try ? end.reason : message, "failed");
  }
  job->request.reply->reply(status, end.type, end.body);
  finish(*job, "failed", status);
}

void Dispatcher::retry(Job& job, const AttemptEnd& end) {
  double random = double(selector_.random() >> 11) * 0x1p-53;
  int64_t wait_us = backoff_us(options_.retry, job.tries, random);
  log::debug("request {} is tried again in {} ms: {}", job.id, wait_us / 1000, end.reason);
  metrics_.retried();
  for (const WorkerPtr& worker : {job.route.answer, job.route.prefill}) {
    if (worker) job.avoid.push_back(worker->id);
  }
  while (job.avoid.size() > kAvoidedMax) job.avoid.erase(job.avoid.begin());
  job.attempt.reset();
  job.route = {};
  job.waiting_since_us = now_us();
  job.not_before_us = job.waiting_since_us + wait_us;
  waiting_.emplace(job.id, jobs_.at(job.id));
  loop_.after(wait_us, [this] { pump(); });
}

void Dispatcher::client_gone(uint64_t id) {
  auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  std::shared_ptr<Job> job = found->second;
  if (job->attempt) {
    job->attempt->cancel();
    --active_;
  }
  finish(*job, "client_gone", 499);
}

void Dispatcher::refuse(Job& job, int status, const std::string& message, const char* outcome) {
  HttpReply::Headers headers;
  if (status == 429 || status == 503) headers = {{"Retry-After", "1"}};
  job.request.reply->reply(status, "application/json", error_json(status, message), std::move(headers));
  finish(job, outcome, status);
}

void Dispatcher::finish(Job& job, const char* outcome, int status) {
  metrics_.request_ended(job.request.path, outcome, status, now_us() - job.arrival_us);
  waiting_.erase(job.id);
  jobs_.erase(job.id);  // may have been the last to hold it
  loop_.post([this] { pump(); });
}

void Dispatcher::tick(int64_t at_us) {
  pump();
  if (at_us < next_sweep_us_) return;
  next_sweep_us_ = at_us + kSweepUs;
  const QueueOptions& queue = options_.queue;
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& [id, job] : jobs_) jobs.push_back(job);
  for (const auto& job : jobs) {
    if (at_us - job->arrival_us > options_.request_us_max) {
      std::string late =
          fmt::format("no answer within {} s (--request-timeout-secs)", options_.request_us_max / 1'000'000);
      if (!job->attempt) {
        refuse(*job, 504, late, "failed");
      } else {
        job->last_try = true;
        job->attempt->give_up(504, late, /*ends_streams=*/true);
      }
    } else if (!job->attempt) {
      int64_t waited_us = at_us - job->waiting_since_us;
      bool none =
          none_since_us_ > 0 && at_us - std::max(none_since_us_, job->waiting_since_us) > queue.no_worker_us_max;
      if (none) {
        refuse(*job, 503, selector_.why_none(), "failed");
      } else if (waited_us > queue.wait_us_max) {
        int64_t wait_s = queue.wait_us_max / 1'000'000;
        refuse(*job, 503, fmt::format("no instance had room within {} s (--queue-timeout-secs)", wait_s), "failed");
      }
    }
  }
}

void Dispatcher::worker_down(const WorkerPtr& worker) {
  std::vector<std::shared_ptr<Attempt>> lost;
  for (const auto& [id, job] : jobs_) {
    if (!job->attempt) continue;
    bool waits = (job->route.answer == worker && job->attempt->waits_for(Side::kAnswer)) ||
                 (job->route.prefill == worker && job->attempt->waits_for(Side::kPrefill));
    if (waits) lost.push_back(job->attempt);
  }
  for (const auto& attempt : lost) attempt->give_up(0, worker->url + " is down", /*ends_streams=*/false);
}

void Dispatcher::abort_all() {
  stopping_ = true;
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& [id, job] : jobs_) jobs.push_back(job);
  for (const auto& job : jobs) {
    job->last_try = true;
    if (job->attempt) {
      job->attempt->give_up(503, "the router is stopping", /*ends_streams=*/true);
    } else {
      refuse(*job, 503, "the router is stopping", "failed");
    }
  }
}

}  // namespace hylas::router
