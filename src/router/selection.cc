#include "router/selection.h"

#include <algorithm>

#include "base/clock.h"

namespace hylas::router {

Selector::Selector(const WorkerSet& workers, const RouterOptions& options)
    : workers_(workers), options_(options), random_(std::random_device{}()) {}

WorkerPtr Selector::pick(Policy policy, std::vector<WorkerPtr> among, const GenerationBody& request,
                         const std::vector<std::string>& avoid, uint64_t turn) {
  auto avoided = [&](const WorkerPtr& one) { return std::ranges::find(avoid, one->id) != avoid.end(); };
  if (!std::ranges::all_of(among, avoided)) std::erase_if(among, avoided);
  std::vector<Choice> choices;
  for (const WorkerPtr& worker : among) choices.push_back(worker->choice(request.prefix));
  size_t index = choose(policy, choices, request.prefix.size(), turn, random_(), options_.balance);
  if (policy == Policy::kCacheAware) among[index]->prefixes.insert(request.prefix);
  return among[index];
}

Selection Selector::select(const GenerationBody& request, const std::vector<std::string>& avoid, int64_t now_us) {
  // A whole instance has a queue of its own; one that decodes must have the memory before a prompt is filled for it.
  std::vector<WorkerPtr> answers = workers_.usable(WorkerKind::kWhole, now_us);
  std::vector<WorkerPtr> prefill = workers_.usable(WorkerKind::kPrefill, now_us);
  std::vector<WorkerPtr> decode;
  if (!prefill.empty()) decode = workers_.usable(WorkerKind::kDecode, now_us);
  bool any = !answers.empty() || !decode.empty();
  std::erase_if(decode, [&](const WorkerPtr& one) { return !fits(request.demand, one->load, one->sent()); });
  bool pairs = !decode.empty();
  answers.insert(answers.end(), decode.begin(), decode.end());
  if (answers.empty()) return {.full = any};
  uint64_t turn = turn_++;
  Route route;
  Policy policy = pairs ? options_.decode_policy.value_or(options_.policy) : options_.policy;
  route.answer = pick(policy, std::move(answers), request, avoid, turn);
  if (route.answer->address.kind == WorkerKind::kDecode) {
    Policy filling = options_.prefill_policy.value_or(options_.policy);
    route.prefill = pick(filling, std::move(prefill), request, avoid, turn);
  }
  return {.route = std::move(route)};
}

std::string Selector::why_none() const {
  if (workers_.all().empty()) return "the router has no workers";
  std::string problems;
  int decode = 0, prefill = 0;
  for (const WorkerPtr& worker : workers_.all()) {
    decode += worker->address.kind == WorkerKind::kDecode;
    prefill += worker->address.kind == WorkerKind::kPrefill;
    const char* problem = !worker->problem.empty()           ? worker->problem.c_str()
                          : !worker->health.up()             ? "not up yet"
                          : worker->breaker.allows(now_us()) ? "up"
                                                             : "too many requests failed there";
    problems +=
        fmt::format("{}{} {}: {}", problems.empty() ? "" : "; ", kind_name(worker->address.kind), worker->url, problem);
  }
  if (decode > 0 && prefill == 0) problems += "; there is no prefill worker";
  if (prefill > 0 && decode == 0) problems += "; there is no decode worker";
  return "no worker can take the request (" + problems + ")";
}

}  // namespace hylas::router
