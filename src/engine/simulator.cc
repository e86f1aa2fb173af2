#include "engine/simulator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <random>

namespace hylas {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

class Simulator {
 public:
  Simulator(const SimulatedPipeline& pipeline, const SimulatedLoad& load)
      : pipeline_(pipeline),
        load_(load),
        scheduler_(pipeline.scheduler),
        free_us_(pipeline.scheduler.stages, 0),
        token_us_(pipeline.scheduler.slots * pipeline.scheduler.groups, 0),
        sent_us_(load.requests.size(), 0) {
    run_.busy_us.assign(pipeline.scheduler.stages, 0);
    run_.ttft_us.assign(load.requests.size(), 0);
    run_.e2e_us.assign(load.requests.size(), 0);
    run_.outputs.assign(load.requests.size(), 0);
    HYLAS_CHECK(load.in_flight_max >= 1);
  }

  SimulatedRun run() {
    while (true) {
      while (std::optional<StepPlan> plan = scheduler_.next_plan()) send(*plan);
      const double result_us = results_.empty() ? kNever : results_.front().at_us;
      const double request_us = next_request_us();
      if (result_us == kNever && request_us == kNever) break;
      now_us_ = std::max(now_us_, std::min(result_us, request_us));
      // What comes at one moment is taken before the next plan is made, as the engine's inbox is emptied.
      while (next_request_us() <= now_us_) submit();
      while (!results_.empty() && results_.front().at_us <= now_us_) take_result();
    }
    HYLAS_CHECK(scheduler_.idle(), "the simulated scheduler hangs");
    run_.duration_us = load_.requests.empty() ? 0 : last_output_us_ - load_.requests.front().arrival_us;
    return std::move(run_);
  }

 private:
  struct Coming {
    double at_us;
    StepResult result;
  };

  double next_request_us() const {
    if (submitted_ == load_.requests.size() || running_ == load_.in_flight_max) return kNever;
    return std::max(now_us_, load_.requests[submitted_].arrival_us);
  }

  void submit() {
    const SimulatedRequest& request = load_.requests[submitted_];
    Request real;
    real.prompt.assign(request.prompt_tokens, 0);
    real.sampling.max_new_tokens = request.output_tokens;
    real.sampling.ignore_eos = true;
    real.sampling.seed = submitted_;
    sent_us_[submitted_] = now_us_;
    scheduler_.submit(++submitted_, std::move(real));
    ++running_;
  }

  void send(const StepPlan& plan) {
    if (in_flight_++ == 0) active_since_us_ = now_us_;
    double ready_us = now_us_;
    for (const PlanRow& row : plan.rows) {
      if (row.kind == RowKind::kDecode) ready_us = std::max(ready_us, token_us_.at(row.sequence));
    }
    Coming coming;
    for (int32_t stage = 0; stage < pipeline_.scheduler.stages; ++stage) {
      const double begin_us = std::max(ready_us, free_us_[stage]);
      const double step_us = plan.rows.empty() ? 0 : pipeline_.step_us(stage, plan);
      free_us_[stage] = begin_us + step_us;
      run_.busy_us[stage] += step_us;
      coming.result.begin_us = std::llround(begin_us);
      coming.result.end_us = std::llround(free_us_[stage]);
      ready_us = free_us_[stage] + (plan.rows.empty() ? 0 : pipeline_.hand_off_us(plan));
    }
    coming.at_us = free_us_.back() + pipeline_.result_us;
    coming.result.id = plan.id;
    int64_t tokens = 0;
    for (const PlanRow& row : plan.rows) {
      tokens += row.length;
      if (!row.sample) continue;
      token_us_.at(row.sequence) = coming.at_us;
      RowResult& sampled = coming.result.rows.emplace_back();
      sampled.sequence = row.sequence;
      sampled.did_sample = true;
      sampled.sampled.token = 0;
    }
    if (tokens > 0) {
      ++run_.steps;
      run_.step_tokens.push_back(tokens);
    }
    results_.push_back(std::move(coming));
  }

  void take_result() {
    StepResult result = std::move(results_.front().result);
    results_.pop_front();
    if (--in_flight_ == 0) run_.active_us += now_us_ - active_since_us_;
    for (const Output& output : scheduler_.on_result(std::move(result))) {
      const size_t index = output.id - 1;
      const double since_us = now_us_ - sent_us_[index];
      if (run_.ttft_us[index] == 0) {
        run_.ttft_us[index] = since_us;
        run_.prompt_tokens += load_.requests[index].prompt_tokens;
      }
      run_.output_tokens += static_cast<int64_t>(output.tokens.size());
      run_.outputs[index] += static_cast<int32_t>(output.tokens.size());
      if (!output.finish) continue;
      run_.e2e_us[index] = since_us;
      last_output_us_ = now_us_;
      --running_;
    }
  }

  const SimulatedPipeline& pipeline_;
  const SimulatedLoad& load_;
  Scheduler scheduler_;
  double now_us_ = 0;
  std::vector<double> free_us_;   // [stage] when it has done what was sent so far
  std::vector<double> token_us_;  // [sequence index] when its last token is known
  std::deque<Coming> results_;
  size_t submitted_ = 0;
  int32_t running_ = 0;  // requests
  std::vector<double> sent_us_;
  int32_t in_flight_ = 0;  // plans
  double active_since_us_ = 0, last_output_us_ = 0;
  SimulatedRun run_;
};

}  // namespace

SimulatedRun simulate(const SimulatedPipeline& pipeline, const SimulatedLoad& load) {
  return Simulator(pipeline, load).run();
}

double SimulatedRun::mean_ttft_us() const {
  return std::accumulate(ttft_us.begin(), ttft_us.end(), 0.0) / static_cast<double>(ttft_us.size());
}

double SimulatedRun::mean_tpot_us() const {
  double sum = 0;
  int64_t requests = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] < 2) continue;
    sum += (e2e_us[i] - ttft_us[i]) / (outputs[i] - 1);
    ++requests;
  }
  return requests > 0 ? sum / static_cast<double>(requests) : 0;
}

double SimulatedRun::tokens_per_s() const {
  return static_cast<double>(prompt_tokens + output_tokens) / duration_us * 1e6;
}

std::vector<SimulatedRequest> equal_requests(int32_t count, int32_t prompt_tokens, int32_t output_tokens, double per_s,
                                             uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<SimulatedRequest> requests;
  double at_us = 0;
  for (int32_t i = 0; i < count; ++i) {
    requests.push_back({at_us, prompt_tokens, output_tokens});
    // Of 53 bits, in (0, 1]: the same on every platform, unlike the library's distributions.
    const double even = (static_cast<double>(random() >> 11) + 1) * 0x1p-53;
    if (per_s > 0) at_us += -std::log(even) / per_s * 1e6;
  }
  return requests;
}

}  // namespace hylas
