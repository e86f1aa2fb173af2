#pragma once
// PlanRunner: plans made by hand, one at a time, over all ranks of an instance. For tools and tests: no scheduler.
#include <cstdint>

#include "base/queue.h"
#include "engine/instance_ranks.h"
#include "engine/report_merge.h"
#include "engine/startup.h"

namespace hylas {

class PlanRunner {
 public:
  explicit PlanRunner(Startup startup)
      : info_(std::move(startup.info)),
        scheduler_(startup.scheduler),
        merge_(info_.parallel),
        ranks_(std::move(startup.ranks), std::move(startup.cluster), 1,
               [this](RankReport report) { reports_.push(std::move(report)); }) {}

  const EngineInfo& info() const { return info_; }
  const SchedulerOptions& scheduler() const { return scheduler_; }

  // Gives the plan the next id, and waits for its result.
  StepResult run(StepPlan plan) {
    plan.known = plans_;
    plan.id = ++plans_;
    ranks_.push(std::make_shared<const StepPlan>(std::move(plan)));
    while (true) {
      if (std::optional<StepResult> result = merge_.add(*reports_.pop())) return *std::move(result);
    }
  }

 private:
  EngineInfo info_;
  SchedulerOptions scheduler_;
  uint64_t plans_ = 0;
  Queue<RankReport> reports_{SIZE_MAX};
  ReportMerge merge_;
  InstanceRanks ranks_;
};

}  // namespace hylas
