// The pipeline in real time beside the simulator's prediction (docs/simulator.md):
//   pipeline_bench [CONFIG_JSON [ROUNDS]]
// Four stages whose steps are timed sleeps, so that four of them run on any machine: the bubble of eight equal
// microbatches, and a mix of prefill and decode. With a model, two stages of real CPU ranks with made-up weights, one
// thread each: the simulator gets the stages' step times as measured in one run, and predicts the next.
#include <fmt/format.h>

#include <random>

#include "engine/startup.h"
#include "real_pipeline.h"

namespace hylas::bench {
namespace {

SchedulerOptions sleeping_options() {
  SchedulerOptions options;
  options.stages = 4;
  options.plans_in_flight_max = 5;
  options.pages = 10000;
  options.slots = 64;
  options.context_length = 1 << 15;
  options.vocab_size = 1000;
  options.prefill_tokens_max = 512;
  return options;
}

std::vector<SimulatedRequest> random_requests(uint64_t seed, int32_t count, int32_t prompt_max, int32_t output_max) {
  std::mt19937_64 random(seed);
  std::vector<SimulatedRequest> requests(count);
  for (SimulatedRequest& request : requests) {
    request.prompt_tokens = 1 + static_cast<int32_t>(random() % prompt_max);
    request.output_tokens = 1 + static_cast<int32_t>(random() % output_max);
  }
  return requests;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

void print_comparison(const char* what, const RealRun& real, const SimulatedRun& simulated) {
  const auto line = [](const std::string& name, double measured, double predicted, const char* unit) {
    fmt::print("  {:<22} measured {:>9.2f} {}, predicted {:>9.2f} {} ({:+.1f} %)\n", name, measured, unit, predicted,
               unit, 100 * (predicted / measured - 1));
  };
  fmt::print("{}\n", what);
  line("duration", real.duration_us * 1e-3, simulated.duration_us * 1e-3, "ms");
  line("TTFT, mean", real.ttft_mean_us * 1e-3, mean(simulated.ttft_us) * 1e-3, "ms");
  for (size_t s = 0; s < real.bubble_ratio.size(); ++s) {
    const double predicted = simulated.bubble_ratio(static_cast<int32_t>(s));
    fmt::print("  {:<22} measured {:>9.2f} %,  predicted {:>9.2f} %  ({:+.1f} points)\n",
               fmt::format("bubble, stage {}", s), 100 * real.bubble_ratio[s], 100 * predicted,
               100 * (predicted - real.bubble_ratio[s]));
  }
}

void compare_sleeping(const char* what, const std::vector<SimulatedRequest>& requests,
                      const SleepingStages::StepUs& step_us) {
  const SchedulerOptions options = sleeping_options();
  RealRun real;
  {
    SleepingStages stages(options, step_us);
    real = run_real(options, requests, [&](const PlanPtr& plan) { stages.push(plan); }, stages.reports());
  }
  const SimulatedPipeline pipeline{options, step_us, [](const StepPlan&) { return 0.0; }};
  print_comparison(what, real, simulate(pipeline, {requests, static_cast<int32_t>(requests.size())}));
}

void sleeping_pipeline() {
  compare_sleeping("eight equal microbatches of 40 ms over four stages: a bubble of 3 / 11 = 27.27 %",
                   std::vector<SimulatedRequest>(8, {0, 512, 1}), [](int32_t, const StepPlan&) { return 40000.0; });
  compare_sleeping("32 prompts of up to 2000 tokens, up to 12 tokens each, stages that differ by 30 %",
                   random_requests(3, 32, 2000, 12), [](int32_t stage, const StepPlan& plan) {
                     const StepCost cost{.step_us = 3000, .token_us = 25, .pair_us = 4e-3};
                     return (1 + 0.1 * stage) * cost.of(load_of(plan.rows, 1));
                   });
}

// Two stages of a model with made-up weights.
class RealRanks {
 public:
  explicit RealRanks(const std::string& path) {
    EngineOptions options;
    options.model_path = path;
    options.load_format = "dummy";
    options.parallel.pp = 2;
    options.threads = 2;
    options.max_running_requests = 16;
    options.chunked_prefill_size = 256;
    options.context_length = 2048;
    Result<Startup> started = start_up(options);
    HYLAS_CHECK(started.ok(), "{}", started.error().message);
    scheduler_ = started->scheduler;
    ranks_ = std::make_unique<RankThreads>(std::move(started->ranks), scheduler_.plans_in_flight_max,
                                           [this](RankReport report) { reports_.push(std::move(report)); });
  }

  // Once: plan ids begin at 1.
  RealRun run(const std::vector<SimulatedRequest>& requests) {
    return run_real(scheduler_, requests, [&](const PlanPtr& plan) { ranks_->push(plan); }, reports_);
  }
  const SchedulerOptions& scheduler() const { return scheduler_; }

 private:
  SchedulerOptions scheduler_;
  Queue<RankReport> reports_{SIZE_MAX};
  std::unique_ptr<RankThreads> ranks_;
};

std::vector<StepCost> measured_costs(const RealRun& run, int32_t stages) {
  std::vector<StepCostModel> models(stages);
  for (const Measured& step : run.steps) models[step.stage].add(step.load, step.busy_us);
  std::vector<StepCost> costs;
  for (const StepCostModel& model : models) costs.push_back(model.cost());
  return costs;
}

void real_pipeline(const std::string& path, int rounds) {
  std::vector<StepCost> costs;
  for (int round = 0; round <= rounds; ++round) {
    RealRanks ranks(path);
    const std::vector<SimulatedRequest> requests = random_requests(10 + round, 48, 1200, 24);
    const RealRun real = ranks.run(requests);
    if (round > 0) {
      const SimulatedPipeline pipeline{
          ranks.scheduler(),
          [&](int32_t stage, const StepPlan& plan) { return costs[stage].of(load_of(plan.rows, 1)); },
          [](const StepPlan&) { return 0.0; }};
      const SimulatedRun predicted = simulate(pipeline, {requests, static_cast<int32_t>(requests.size())});
      print_comparison(fmt::format("real ranks, two stages, round {}", round).c_str(), real, predicted);
    }
    costs = measured_costs(real, 2);
    for (size_t s = 0; s < costs.size(); ++s) {
      fmt::print("  stage {}: {:.0f} us a step, {:.2f} us a token, {:.5f} us a pair\n", s, costs[s].step_us,
                 costs[s].token_us, costs[s].pair_us);
    }
  }
}

}  // namespace
}  // namespace hylas::bench

int main(int argc, char** argv) {
  hylas::bench::sleeping_pipeline();
  if (argc > 1) hylas::bench::real_pipeline(argv[1], argc > 2 ? std::atoi(argv[2]) : 3);
  return 0;
}
