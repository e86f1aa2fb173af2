#include "router/worker.h"

#include <algorithm>

#include "base/log.h"

namespace hylas::router {
namespace {

constexpr int64_t kOnTheWayUs = 20'000;  // from the router to where an instance counts a request

size_t prefix_blocks_max(const RouterOptions& options) {
  return size_t(std::max<int64_t>(options.prefix_bytes_max / int64_t(kPrefixBlockBytes), 1));
}

}  // namespace

Worker::Worker(std::string id, WorkerAddress address, const RouterOptions& options)
    : id(std::move(id)),
      address(std::move(address)),
      url(to_string(this->address.url)),
      health(options.health.thresholds),
      breaker(options.breaker),
      prefixes(prefix_blocks_max(options)) {}

uint16_t Worker::bootstrap_port() const {
  if (address.bootstrap_port != 0) return address.bootstrap_port;
  return load ? load->bootstrap_port : 0;
}

void Worker::add(uint64_t request, const Demand& demand, int64_t now_us) {
  if (!sent_.try_emplace(request, OneSent{demand, now_us}).second) return;
  sum_.sequences += demand.sequences;
  prompt_tokens_ += demand.prompt_tokens;
  ++requests_total;
}

void Worker::remove(uint64_t request) {
  auto found = sent_.find(request);
  if (found == sent_.end()) return;
  sum_.sequences -= found->second.demand.sequences;
  prompt_tokens_ -= found->second.demand.prompt_tokens;
  sent_.erase(found);
}

Sent Worker::sent() const {
  Sent sent = sum_;
  for (const auto& [request, one] : sent_) {
    if (one.at_us + kOnTheWayUs < report_us_) continue;
    sent.recent_sequences += one.demand.sequences;
    sent.recent_pages += pages_of(one.demand, load ? load->page_size : 1);
  }
  return sent;
}

Choice Worker::choice(const std::vector<uint64_t>& prefix) const {
  Choice choice{
      .requests = int64_t(sent_.size()), .matched_blocks = prefixes.matched(prefix), .cached_blocks = prefixes.size()};
  // Other routers may send to it too.
  if (load) choice.requests = std::max(choice.requests, load->running + load->queued);
  choice.work = address.kind == WorkerKind::kPrefill ? prompt_tokens_ : choice.requests;
  return choice;
}

void Worker::set_load(const WorkerLoad& report, int64_t asked_us) {
  load = report;
  report_us_ = asked_us;
}

Result<WorkerPtr> WorkerSet::add(const WorkerAddress& address, bool from_file) {
  for (const WorkerPtr& other : workers_) {
    if (!other->address.same_worker(address)) continue;
    return error(ErrorCode::kInvalid, "{} is a {} worker already: remove it first", other->url,
                 kind_name(other->address.kind));
  }
  auto worker = std::make_shared<Worker>(fmt::format("worker-{}", ++last_id_), address, options_);
  worker->from_file = from_file;
  workers_.push_back(worker);
  log::info("{} worker {} added", kind_name(address.kind), worker->url);
  return worker;
}

WorkerPtr WorkerSet::find(const std::string& id_or_url) const {
  auto found = std::ranges::find_if(
      workers_, [&](const WorkerPtr& one) { return one->id == id_or_url || one->url == id_or_url; });
  return found == workers_.end() ? nullptr : *found;
}

WorkerPtr WorkerSet::remove(const std::string& id_or_url) {
  WorkerPtr worker = find(id_or_url);
  if (!worker) return nullptr;
  worker->removed = true;
  std::erase(workers_, worker);
  log::info("{} worker {} removed; requests at it go on", kind_name(worker->address.kind), worker->url);
  return worker;
}

void WorkerSet::follow_file(const std::vector<WorkerAddress>& wanted) {
  auto same = [](const Worker& worker, const WorkerAddress& address) {
    return worker.address.same_worker(address) && worker.address.kind == address.kind &&
           worker.address.bootstrap_port == address.bootstrap_port;
  };
  std::vector<std::string> leaving;
  for (const WorkerPtr& worker : workers_) {
    bool stays = std::ranges::any_of(wanted, [&](const WorkerAddress& one) { return same(*worker, one); });
    if (worker->from_file && !stays) leaving.push_back(worker->id);
  }
  for (const std::string& id : leaving) remove(id);
  for (const WorkerAddress& address : wanted) {
    bool known = std::ranges::any_of(workers_, [&](const WorkerPtr& one) { return same(*one, address); });
    if (known) continue;
    auto added = add(address, true);
    if (!added.ok()) log::warn("{}", added.error().message);
  }
}

std::vector<WorkerPtr> WorkerSet::usable(WorkerKind kind, int64_t now_us) const {
  std::vector<WorkerPtr> found;
  for (const WorkerPtr& worker : workers_) {
    if (worker->address.kind == kind && worker->usable(now_us)) found.push_back(worker);
  }
  return found;
}

}  // namespace hylas::router
