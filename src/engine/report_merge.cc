#include "engine/report_merge.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace hylas {

std::optional<StepResult> ReportMerge::add(RankReport report) {
  if (report.place.stage != sizes_.pp - 1 || report.place.attn_rank != 0) return std::nullopt;
  StepResult& mine = report.result;
  auto found = std::find_if(partial_.begin(), partial_.end(), [&](const Partial& p) { return p.result.id == mine.id; });
  if (found == partial_.end()) {
    partial_.push_back({sizes_.dp - 1, std::move(mine)});
    found = std::prev(partial_.end());
  } else {
    std::move(mine.rows.begin(), mine.rows.end(), std::back_inserter(found->result.rows));
    --found->missing;
  }
  if (found->missing > 0) return std::nullopt;
  HYLAS_CHECK(found == partial_.begin(), "plan {} is done before plan {}", found->result.id,
              partial_.front().result.id);
  StepResult done = std::move(found->result);
  partial_.pop_front();
  return done;
}

}  // namespace hylas
