#include "engine/timeline.h"

#include <algorithm>

namespace hylas {

Timeline::Timeline(int32_t stages, size_t plans_kept)
    : plans_kept_(plans_kept), busy_us_(stages, 0), sums_us_(stages, 0) {}

void Timeline::plan_sent(const StepPlan& plan, int64_t now_us) {
  if (in_flight_++ == 0) active_since_us_ = now_us;
  Sent sent{plan.id, plan.lane, 0, 0};
  for (const PlanRow& row : plan.rows) {
    if (row.kind == RowKind::kDecode) ++sent.decode_rows;
    else sent.prefill_tokens += row.length;
  }
  sent_.push_back(sent);
  if (sent_.size() > plans_kept_) sent_.pop_front();
}

void Timeline::add(const RankReport& report) {
  if (report.place.tp_rank != 0) return;
  const StepResult& result = report.result;
  busy_us_.at(report.place.stage) += result.busy_us();
  sums_us_.at(report.place.stage) += result.sums_us;
  steps_.push_back({result.id, report.place.stage, result.begin_us, result.end_us, result.wait_us});
  if (steps_.size() > plans_kept_ * busy_us_.size()) steps_.pop_front();
}

void Timeline::result_back(int64_t now_us) {
  if (--in_flight_ == 0) active_us_ += now_us - active_since_us_;
}

std::vector<StageStats> Timeline::stages(int64_t now_us) const {
  const int64_t active_us = active_us_ + (in_flight_ > 0 ? now_us - active_since_us_ : 0);
  std::vector<StageStats> stats;
  for (size_t s = 0; s < busy_us_.size(); ++s) {
    stats.push_back({busy_us_[s], sums_us_[s], std::max(active_us, busy_us_[s])});
  }
  return stats;
}

// A step waits before it works: for its input, or for the tokens of its rows.
std::string Timeline::trace_json() const {
  std::string json = R"({"displayTimeUnit":"ms","traceEvents":[)";
  for (size_t stage = 0; stage < busy_us_.size(); ++stage) {
    json += fmt::format(R"({{"name":"thread_name","ph":"M","pid":0,"tid":{0},"args":{{"name":"stage {0}"}}}},)", stage);
  }
  for (const Step& step : steps_) {
    const auto sent =
        std::lower_bound(sent_.begin(), sent_.end(), step.plan, [](const Sent& s, uint64_t id) { return s.plan < id; });
    if (sent == sent_.end() || sent->plan != step.plan) continue;
    const int64_t work_us = step.begin_us + step.wait_us;
    if (step.wait_us > 0) {
      json += fmt::format(R"({{"name":"wait","ph":"X","pid":0,"tid":{},"ts":{},"dur":{}}},)", step.stage, step.begin_us,
                          step.wait_us);
    }
    json += fmt::format(
        R"({{"name":"plan {}","ph":"X","pid":0,"tid":{},"ts":{},"dur":{},)"
        R"("args":{{"lane":{},"decode_rows":{},"prefill_tokens":{}}}}},)",
        step.plan, step.stage, work_us, step.end_us - work_us, sent->lane, sent->decode_rows, sent->prefill_tokens);
  }
  if (json.back() == ',') json.pop_back();
  return json + "]}";
}

}  // namespace hylas
