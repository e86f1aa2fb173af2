#pragma once
// Simulator: the real scheduler over stages that only take time, in virtual time. Plans, queues and lanes are those of
// the engine, so a schedule of thousands of GPUs runs in a second; what a step takes is the caller's to say.
#include <cstdint>
#include <functional>
#include <vector>

#include "engine/scheduler.h"
#include "engine/step_plan.h"

namespace hylas {

// Times in microseconds.
struct SimulatedPipeline {
  SchedulerOptions scheduler;
  std::function<double(int32_t stage, const StepPlan&)> step_us;  // of plans with rows
  std::function<double(const StepPlan&)> hand_off_us;             // from a stage to the next; the sender does not wait
  double result_us = 0;  // from the last stage to the scheduler, and to the first stage
};

struct SimulatedRequest {
  double arrival_us = 0;
  int32_t prompt_tokens = 1;
  int32_t output_tokens = 1;
};

struct SimulatedLoad {
  std::vector<SimulatedRequest> requests;  // by arrival
  int32_t in_flight_max = 1;               // the client holds back what is more
};

struct SimulatedRun {
  double duration_us = 0;        // from the first request to the last output
  std::vector<double> ttft_us;   // [request] from sending to the first token
  std::vector<double> e2e_us;    // [request] from sending to the last one
  std::vector<int32_t> outputs;  // [request] tokens
  int64_t prompt_tokens = 0, output_tokens = 0;
  uint64_t steps = 0;
  double active_us = 0;              // in which plans were in flight
  std::vector<double> busy_us;       // [stage]
  std::vector<int64_t> step_tokens;  // [step]

  double mean_ttft_us() const;
  double mean_tpot_us() const;  // between the tokens of a request after the first; 0 where no request has more
  double tokens_per_s() const;  // of prompts and outputs
  double bubble_ratio(int32_t stage) const { return active_us > 0 ? 1 - busy_us.at(stage) / active_us : 0; }
};

// Each stage does plans in their order, one at a time, and begins when it is free, its input is there and, on the first
// stage, the tokens of its decode rows have come back. Deterministic.
SimulatedRun simulate(const SimulatedPipeline& pipeline, const SimulatedLoad& load);

// `count` equal requests, all at once (rate 0) or at `per_s` a second with exponential gaps.
std::vector<SimulatedRequest> equal_requests(int32_t count, int32_t prompt_tokens, int32_t output_tokens, double per_s,
                                             uint64_t seed);

}  // namespace hylas
