#pragma once
// Timeline: when each stage worked on which plan. Gives the bubble ratio, and a trace that Perfetto shows.
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/rank_threads.h"

namespace hylas {

// Not thread-safe: the scheduler thread's, but for copies of what it returns.
class Timeline {
 public:
  // Keeps the steps of the last `plans_kept` plans.
  explicit Timeline(int32_t stages, size_t plans_kept = 256);

  void plan_sent(const StepPlan& plan, int64_t now_us);
  // Of the first rank of each stage; other ranks' reports are passed over.
  void add(const RankReport& report);
  void result_back(int64_t now_us);

  std::vector<StageStats> stages(int64_t now_us) const;
  // Trace Event Format (chrome://tracing, ui.perfetto.dev): a track for each stage, an event for each step with its
  // plan, lane and tokens, and one for the time that it waited for other stages.
  std::string trace_json() const;

 private:
  struct Step {
    uint64_t plan;
    int32_t stage;
    int64_t begin_us, end_us, wait_us;
  };
  struct Sent {
    uint64_t plan;
    int32_t lane;
    int32_t decode_rows, prefill_tokens;
  };

  size_t plans_kept_;
  std::vector<int64_t> busy_us_, sums_us_;  // [stage]
  int64_t active_us_ = 0;
  int64_t active_since_us_ = 0;  // while plans are in flight
  int32_t in_flight_ = 0;
  std::deque<Sent> sent_;  // by plan
  std::deque<Step> steps_;
};

}  // namespace hylas
