// CPU time of the scheduler's thread for each step: planning, handing the plan to every rank's queue and taking the
// result, with 256 sequences that decode and eight ranks.
#include <fmt/format.h>

#include <atomic>
#include <ctime>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/queue.h"
#include "engine/scheduler.h"

namespace hylas {
namespace {

constexpr int32_t kSequences = 256, kRanks = 8, kPromptTokens = 3500, kOutputTokens = 400;

double cpu_us() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e6 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_nsec);
}

using PlanPtr = std::shared_ptr<const StepPlan>;

// Ranks that take their plans and do nothing.
class Ranks {
 public:
  explicit Ranks(int32_t plans_max) {
    for (int32_t i = 0; i < kRanks; ++i) queues_.push_back(std::make_unique<Queue<PlanPtr>>(plans_max + 1));
    for (auto& queue : queues_) {
      threads_.emplace_back([&queue] {
        while (queue->pop()) {
        }
      });
    }
  }
  ~Ranks() {
    for (auto& queue : queues_) queue->close();
  }
  void push(const PlanPtr& plan) {
    for (auto& queue : queues_) queue->push(plan);
  }

 private:
  std::vector<std::unique_ptr<Queue<PlanPtr>>> queues_;
  std::vector<std::jthread> threads_;
};

StepResult result_of(const StepPlan& plan) {
  StepResult result;
  result.id = plan.id;
  for (const PlanRow& row : plan.rows) {
    if (!row.sample) continue;
    RowResult& sampled = result.rows.emplace_back();
    sampled.sequence = row.sequence;
    sampled.did_sample = true;
    sampled.sampled.token = 5;
  }
  return result;
}

void measure(int32_t stages, int32_t groups) {
  SchedulerOptions options;
  options.stages = stages;
  options.groups = groups;
  options.plans_in_flight_max = stages + 1;
  options.slots = kSequences / groups;
  options.pages = int64_t{options.slots} * (kPromptTokens + kOutputTokens + 63) / 64 + options.slots;
  options.context_length = 8192;
  options.vocab_size = 248320;
  options.prefill_tokens_max = 16384;
  Scheduler scheduler(options);
  for (int32_t i = 1; i <= kSequences; ++i) {
    Request request;
    request.prompt.assign(kPromptTokens, 1);
    request.sampling.max_new_tokens = kOutputTokens;
    request.sampling.ignore_eos = true;
    request.sampling.seed = i;
    scheduler.submit(i, std::move(request));
  }
  Ranks ranks(options.plans_in_flight_max);
  std::deque<PlanPtr> sent;
  double planning_us = 0, pushing_us = 0, results_us = 0;
  int64_t steps = 0, rows = 0;
  while (true) {
    const EngineStats before = scheduler.stats();
    // Only steps in which all sequences decode count.
    const bool counts =
        before.running == kSequences && before.prompt_tokens_total == uint64_t{kSequences} * kPromptTokens;
    while (true) {
      const double begin_us = cpu_us();
      std::optional<StepPlan> plan = scheduler.next_plan();
      const double planned_us = cpu_us();
      if (!plan) break;
      sent.push_back(std::make_shared<const StepPlan>(*std::move(plan)));
      ranks.push(sent.back());
      if (!counts) continue;
      planning_us += planned_us - begin_us;
      pushing_us += cpu_us() - planned_us;
      rows += static_cast<int64_t>(sent.back()->rows.size());
      ++steps;
    }
    if (sent.empty()) break;
    StepResult result = result_of(*sent.front());
    sent.pop_front();
    const double begin_us = cpu_us();
    scheduler.on_result(std::move(result));
    if (counts) results_us += cpu_us() - begin_us;
  }
  const auto n = static_cast<double>(steps);
  fmt::print(
      "{} stage(s), {} dp group(s): {:.1f} us a step (plan {:.1f}, queues {:.1f}, result {:.1f}), {:.0f} rows a step, "
      "{} steps\n",
      stages, groups, (planning_us + pushing_us + results_us) / n, planning_us / n, pushing_us / n, results_us / n,
      static_cast<double>(rows) / n, steps);
}

}  // namespace
}  // namespace hylas

int main() {
  hylas::measure(1, 1);
  hylas::measure(4, 1);
  hylas::measure(1, 4);
  return 0;
}
