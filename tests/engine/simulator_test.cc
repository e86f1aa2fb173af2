#include "engine/simulator.h"

#include <gtest/gtest.h>

#include <numeric>

namespace hylas {
namespace {

constexpr double kStepUs = 1000;

SimulatedPipeline pipeline_of(int32_t stages, int32_t plans, double us = kStepUs) {
  SimulatedPipeline pipeline;
  SchedulerOptions& options = pipeline.scheduler;
  options.stages = stages;
  options.plans_in_flight_max = plans;
  options.pages = 100000;
  options.slots = 512;
  options.context_length = 1 << 17;
  options.vocab_size = 100;
  options.prefill_tokens_max = 512;
  pipeline.step_us = [us](int32_t, const StepPlan&) { return us; };
  pipeline.hand_off_us = [](const StepPlan&) { return 0.0; };
  return pipeline;
}

SimulatedLoad together(int32_t count, int32_t prompt, int32_t output = 1) {
  return {equal_requests(count, prompt, output, 0, 1), count};
}

TEST(Simulator, AStepAfterTheOtherOnOneStage) {
  const SimulatedRun run = simulate(pipeline_of(1, 2), together(8, 512));
  EXPECT_EQ(run.steps, 8u);
  EXPECT_DOUBLE_EQ(run.duration_us, 8 * kStepUs);
  EXPECT_DOUBLE_EQ(run.bubble_ratio(0), 0);
  EXPECT_DOUBLE_EQ(run.ttft_us[0], kStepUs);
  EXPECT_DOUBLE_EQ(run.ttft_us[7], 8 * kStepUs);
  EXPECT_EQ(run.prompt_tokens, 8 * 512);
  EXPECT_EQ(run.output_tokens, 8);
}

TEST(Simulator, MeansAreOverRequestsAndTheirTokensAfterTheFirst) {
  SimulatedLoad load = together(3, 512, 5);
  load.requests[2].output_tokens = 1;  // has no time between tokens
  load.in_flight_max = 1;
  const SimulatedRun run = simulate(pipeline_of(1, 1), load);
  EXPECT_EQ(run.outputs, (std::vector<int32_t>{5, 5, 1}));
  EXPECT_DOUBLE_EQ(run.mean_ttft_us(), kStepUs);
  EXPECT_DOUBLE_EQ(run.mean_tpot_us(), kStepUs);
  EXPECT_DOUBLE_EQ(run.tokens_per_s(), (3 * 512 + 11) / (11 * kStepUs * 1e-6));
  EXPECT_EQ(simulate(pipeline_of(1, 1), together(3, 512)).mean_tpot_us(), 0);
}

// p stages, m equal microbatches: every stage rests p - 1 of m + p - 1 steps.
TEST(Simulator, TheBubbleOfEqualMicrobatchesIsTheTextbooksOne) {
  for (const int32_t stages : {2, 4, 8}) {
    const SimulatedRun run = simulate(pipeline_of(stages, stages + 1), together(8, 512));
    EXPECT_DOUBLE_EQ(run.duration_us, (8 + stages - 1) * kStepUs);
    for (int32_t s = 0; s < stages; ++s) {
      EXPECT_NEAR(run.bubble_ratio(s), (stages - 1.0) / (8 + stages - 1), 1e-9);
    }
  }
}

TEST(Simulator, ChunksOfOnePromptFillThePipeAsWell) {
  const SimulatedRun run = simulate(pipeline_of(4, 5), together(1, 8 * 512));
  EXPECT_DOUBLE_EQ(run.duration_us, 11 * kStepUs);
}

TEST(Simulator, OnePlanAtATimeUsesOneStageAtATime) {
  const SimulatedRun run = simulate(pipeline_of(4, 1), together(8, 512));
  EXPECT_DOUBLE_EQ(run.duration_us, 8 * 4 * kStepUs);
  EXPECT_DOUBLE_EQ(run.bubble_ratio(2), 0.75);
}

TEST(Simulator, TheSlowestStageSetsThePace) {
  SimulatedPipeline pipeline = pipeline_of(3, 4);
  pipeline.step_us = [](int32_t stage, const StepPlan&) { return stage == 1 ? 2 * kStepUs : kStepUs; };
  const SimulatedRun run = simulate(pipeline, together(100, 512));
  EXPECT_DOUBLE_EQ(run.duration_us, (2 * 100 + 2) * kStepUs);
}

TEST(Simulator, AHandOffDelaysTheNextStageAndNotTheSender) {
  SimulatedPipeline pipeline = pipeline_of(3, 4);
  pipeline.hand_off_us = [](const StepPlan&) { return 100.0; };
  pipeline.result_us = 10;
  const SimulatedRun run = simulate(pipeline, together(1, 512));
  EXPECT_DOUBLE_EQ(run.ttft_us[0], 3 * kStepUs + 2 * 100 + 10);
  EXPECT_NEAR(simulate(pipeline, together(200, 512)).duration_us, 200 * kStepUs, 5 * kStepUs) << "links run beside";
}

TEST(Simulator, ATokenIsOnTheFirstStageAgainOnceTheLastOneHasIt) {
  const SimulatedRun run = simulate(pipeline_of(4, 5), together(1, 512, 10));
  EXPECT_DOUBLE_EQ(run.e2e_us[0], 10 * 4 * kStepUs);
}

TEST(Simulator, SequencesThatDecodeFillThePipeTogether) {
  const SimulatedRun one = simulate(pipeline_of(4, 5), together(1, 64, 100));
  const SimulatedRun eight = simulate(pipeline_of(4, 5), together(8, 64, 100));
  EXPECT_LT(eight.duration_us, 1.1 * one.duration_us);
  EXPECT_LT(eight.bubble_ratio(0), 0.1);
}

TEST(Simulator, TheClientHoldsBackWhatIsMoreThanItsConcurrency) {
  SimulatedLoad load = together(10, 512);
  load.in_flight_max = 2;
  const SimulatedRun run = simulate(pipeline_of(1, 2), load);
  EXPECT_DOUBLE_EQ(run.ttft_us[9], 2 * kStepUs) << "it waits for one other only";
}

TEST(Simulator, RequestsComeWhenTheyArrive) {
  const SimulatedRun run = simulate(pipeline_of(1, 2), {{{0, 512, 1}, {5000, 512, 1}}, 8});
  EXPECT_DOUBLE_EQ(run.ttft_us[1], kStepUs);
  EXPECT_DOUBLE_EQ(run.duration_us, 6000);
  EXPECT_DOUBLE_EQ(run.active_us, 2000);
}

TEST(Simulator, ArrivalsHaveTheirRate) {
  const std::vector<SimulatedRequest> requests = equal_requests(20000, 10, 1, 50, 7);
  EXPECT_NEAR(requests.back().arrival_us / 1e6, 20000 / 50.0, 8);
}

TEST(Simulator, DynamicChunksShortenAPipelinesLongPrompt) {
  SimulatedPipeline pipeline = pipeline_of(4, 5);
  pipeline.scheduler.prefill_tokens_max = 4096;
  pipeline.step_us = [](int32_t, const StepPlan& plan) {
    return StepCost{.step_us = 500, .token_us = 2, .pair_us = 2e-4}.of(load_of(plan.rows, 1));
  };
  const SimulatedRun whole = simulate(pipeline, together(2, 100000));
  pipeline.scheduler.enable_dynamic_chunking = true;
  const SimulatedRun dynamic = simulate(pipeline, together(2, 100000));
  EXPECT_GT(dynamic.steps, whole.steps);
  EXPECT_LT(dynamic.bubble_ratio(0), whole.bubble_ratio(0)) << "steps of equal time leave smaller gaps";
}

}  // namespace
}  // namespace hylas
