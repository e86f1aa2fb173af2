#pragma once
// A pipeline in real time: the scheduler's loop as in engine.cc over stages on threads of their own, and what was
// measured. For comparison with the simulator.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/queue.h"
#include "engine/rank_threads.h"
#include "engine/report_merge.h"
#include "engine/simulator.h"
#include "engine/timeline.h"

namespace hylas::bench {

using PlanPtr = std::shared_ptr<const StepPlan>;

// One step of one stage as it was measured.
struct Measured {
  int32_t stage;
  StepLoad load;
  double busy_us;
};

struct RealRun {
  double duration_us = 0, ttft_mean_us = 0;
  std::vector<double> bubble_ratio;  // [stage]
  std::vector<Measured> steps;
};

// Sends all requests at once and waits for the last output. `push` hands a plan to the stages, `reports` is where they
// answer.
inline RealRun run_real(const SchedulerOptions& options, const std::vector<SimulatedRequest>& requests,
                        const std::function<void(PlanPtr)>& push, Queue<RankReport>& reports) {
  Scheduler scheduler(options);
  Timeline timeline(options.stages);
  ReportMerge merge({.pp = options.stages});
  std::map<uint64_t, StepLoad> loads;
  RealRun run;
  const int64_t begin_us = now_us();
  for (size_t i = 0; i < requests.size(); ++i) {
    Request request;
    for (int32_t t = 0; t < requests[i].prompt_tokens; ++t) request.prompt.push_back((t * 7 + 3) % options.vocab_size);
    request.sampling.max_new_tokens = requests[i].output_tokens;
    request.sampling.ignore_eos = true;
    request.sampling.temperature = 0;
    request.sampling.seed = i;
    scheduler.submit(i + 1, std::move(request));
  }
  std::vector<bool> begun(requests.size(), false);
  int64_t last_us = begin_us;
  while (!scheduler.idle()) {
    while (std::optional<StepPlan> plan = scheduler.next_plan()) {
      timeline.plan_sent(*plan, now_us());
      if (!plan->rows.empty()) loads[plan->id] = load_of(plan->rows, options.groups);
      push(std::make_shared<const StepPlan>(*std::move(plan)));
    }
    if (scheduler.idle()) break;
    RankReport report = *reports.pop();
    timeline.add(report);
    if (report.place.tp_rank == 0 && loads.contains(report.result.id)) {
      run.steps.push_back({report.place.stage, loads[report.result.id], static_cast<double>(report.result.busy_us())});
    }
    std::optional<StepResult> result = merge.add(std::move(report));
    if (!result) continue;
    timeline.result_back(now_us());
    for (const Output& output : scheduler.on_result(*std::move(result))) {
      last_us = now_us();
      if (begun[output.id - 1]) continue;
      begun[output.id - 1] = true;
      run.ttft_mean_us += static_cast<double>(last_us - begin_us) / static_cast<double>(requests.size());
    }
  }
  run.duration_us = static_cast<double>(last_us - begin_us);
  for (const StageStats& stage : timeline.stages(now_us())) run.bubble_ratio.push_back(stage.bubble_ratio());
  return run;
}

// Stages that sleep instead of computing: the same queues and waits as RankThreads, Pipe and TokenFeed.
class SleepingStages {
 public:
  using StepUs = std::function<double(int32_t stage, const StepPlan&)>;
  SleepingStages(const SchedulerOptions& options, StepUs step_us) : step_us_(std::move(step_us)) {
    sampled_in_.resize(options.slots, 0);
    for (int32_t stage = 0; stage < options.stages; ++stage) {
      plans_.push_back(std::make_unique<Queue<PlanPtr>>(options.plans_in_flight_max));
      inputs_.push_back(std::make_unique<Queue<uint64_t>>(SIZE_MAX));
    }
    for (int32_t stage = 0; stage < options.stages; ++stage) {
      threads_.emplace_back([this, stage] { work(stage); });
    }
  }
  ~SleepingStages() {
    for (auto& plans : plans_) plans->close();
  }

  void push(const PlanPtr& plan) {
    for (auto& plans : plans_) plans->push(plan);
  }
  Queue<RankReport>& reports() { return reports_; }

 private:
  void work(int32_t stage) {
    while (std::optional<PlanPtr> plan = plans_[stage]->pop()) {
      RankReport report;
      report.place.stage = stage;
      report.result.id = (*plan)->id;
      report.result.begin_us = now_us();
      if (stage == 0) {
        wait_for_tokens(**plan);
      } else {
        inputs_[stage]->pop();
      }
      report.result.wait_us = now_us() - report.result.begin_us;
      if (!(*plan)->rows.empty()) {
        const auto us = std::chrono::nanoseconds(static_cast<int64_t>(1000 * step_us_(stage, **plan)));
        std::this_thread::sleep_until(std::chrono::steady_clock::now() + us);
      }
      report.result.end_us = now_us();
      if (stage + 1 < static_cast<int32_t>(plans_.size())) {
        inputs_[stage + 1]->push((*plan)->id);
      } else {
        finish(**plan, report.result);
      }
      reports_.push(std::move(report));
    }
  }

  void wait_for_tokens(const StepPlan& plan) {
    uint64_t needed = 0;
    for (const PlanRow& row : plan.rows) {
      if (row.kind == RowKind::kDecode) needed = std::max(needed, sampled_in_[row.sequence]);
      if (row.sample) sampled_in_[row.sequence] = plan.id;
    }
    std::unique_lock lock(mutex_);
    done_changed_.wait(lock, [&] { return done_ >= needed; });
  }

  void finish(const StepPlan& plan, StepResult& result) {
    for (const PlanRow& row : plan.rows) {
      if (!row.sample) continue;
      RowResult& sampled = result.rows.emplace_back();
      sampled.sequence = row.sequence;
      sampled.did_sample = true;
      sampled.sampled.token = 0;
    }
    std::lock_guard lock(mutex_);
    done_ = plan.id;
    done_changed_.notify_all();
  }

  StepUs step_us_;
  std::vector<uint64_t> sampled_in_;  // [sequence index], the first stage's
  std::vector<std::unique_ptr<Queue<PlanPtr>>> plans_;
  std::vector<std::unique_ptr<Queue<uint64_t>>> inputs_;
  Queue<RankReport> reports_{SIZE_MAX};
  std::mutex mutex_;
  std::condition_variable done_changed_;
  uint64_t done_ = 0;  // the last stage's last plan
  std::vector<std::jthread> threads_;
};

}  // namespace hylas::bench
