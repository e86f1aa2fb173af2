#pragma once
// ReportMerge: the reports of all ranks on a plan made into the one result that the scheduler takes.
#include <cstdint>
#include <deque>
#include <optional>

#include "engine/rank_threads.h"

namespace hylas {

class ReportMerge {
 public:
  explicit ReportMerge(const ParallelSizes& sizes) : sizes_(sizes) {}

  // The result of the oldest plan, once one rank of every dp group of the last stage has reported on it. Results come
  // out in the order of the plans, as each rank does them in order.
  std::optional<StepResult> add(RankReport report);

 private:
  struct Partial {
    int32_t missing;
    StepResult result;
  };
  ParallelSizes sizes_;
  std::deque<Partial> partial_;  // by plan
};

}  // namespace hylas
