// The scheduler's rules (engine/scheduler.h), one test each.
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/driver.h"
#include "engine/plan_rows.h"

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<int32_t> lengths(const StepPlan& plan) {
  std::vector<int32_t> lengths;
  for (const PlanRow& row : plan.rows) lengths.push_back(row.length);
  return lengths;
}

std::vector<RowKind> kinds(const StepPlan& plan) {
  std::vector<RowKind> kinds;
  for (const PlanRow& row : plan.rows) kinds.push_back(row.kind);
  return kinds;
}

Request endless(int32_t prompt_tokens, int32_t max_new_tokens, uint64_t seed = 1) {
  Request request = make_request(prompt_tokens, max_new_tokens, seed);
  request.sampling.ignore_eos = true;
  return request;
}

void expect_right_text(const Driver& driver, RequestId id, const Request& request) {
  ExpectedText expected = expected_text(request, driver.options);
  const Text& text = driver.texts.at(id);
  EXPECT_EQ(text.tokens, expected.tokens) << "request " << id;
  ASSERT_TRUE(text.finish.has_value());
  EXPECT_EQ(*text.finish, expected.finish) << "request " << id;
}

TEST(Scheduler, OneRequestRunsFromPromptToLastToken) {
  Driver driver(small_options());
  Request request = endless(100, 5);
  driver.submit(1, request);
  EXPECT_TRUE(driver.run());
  expect_right_text(driver, 1, request);
  EXPECT_EQ(driver.texts[1].finish, FinishReason::kLength);
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, ALongPromptIsPrefilledInChunksAndOnlyTheLastSamples) {
  Driver driver(small_options());
  driver.submit(1, endless(600, 1));
  std::vector<std::vector<int32_t>> cuts;
  std::vector<bool> samples;
  while (const StepPlan* plan = driver.plan()) {
    if (plan->rows.empty()) break;
    cuts.push_back(lengths(*plan));
    samples.push_back(plan->rows[0].sample);
    driver.finish_one();
  }
  EXPECT_THAT(cuts, ElementsAre(ElementsAre(256), ElementsAre(256), ElementsAre(88)));
  EXPECT_THAT(samples, ElementsAre(false, false, true));
}

TEST(Scheduler, ChunksOfOnePromptAreInFlightTogether) {
  Driver driver(small_options());
  driver.submit(1, endless(600, 1));
  ASSERT_NE(driver.plan(), nullptr);
  const StepPlan* second = driver.plan();
  ASSERT_NE(second, nullptr) << "the second chunk does not wait for the first";
  EXPECT_EQ(second->rows[0].begin, 256);
  EXPECT_EQ(second->rows[0].state_read, second->rows[0].state_write);
  EXPECT_EQ(driver.plan(), nullptr) << "two plans are the limit";
}

TEST(Scheduler, AFreshSequenceReadsNoStateAndThenItsOwnSlot) {
  Driver driver(small_options());
  driver.submit(1, endless(10, 3));
  const StepPlan* prefill = driver.plan();
  EXPECT_EQ(prefill->rows[0].state_read, -1);
  const int32_t slot = prefill->rows[0].state_write;
  const StepPlan* decode = driver.plan();
  EXPECT_EQ(decode->rows[0].state_read, slot);
  EXPECT_EQ(decode->rows[0].state_write, slot);
}

TEST(Scheduler, ADecodeRowIsPlannedBeforeItsInputTokenIsKnown) {
  Driver driver(small_options());
  driver.submit(1, endless(10, 3));
  driver.plan();
  const StepPlan* plan = driver.plan();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows[0].kind, RowKind::kDecode);
  EXPECT_THAT(plan->rows[0].tokens, IsEmpty()) << "the rank takes the token that it sampled last";
  EXPECT_EQ(plan->rows[0].begin, 10);
  EXPECT_EQ(plan->rows[0].step, 1);
}

TEST(Scheduler, WithOnePlanInFlightNothingRunsAhead) {
  SchedulerOptions options = small_options();
  options.plans_in_flight_max = 1;
  Driver driver(options);
  Request request = endless(10, 20);
  driver.submit(1, request);
  driver.plan();
  EXPECT_EQ(driver.plan(), nullptr);
  EXPECT_TRUE(driver.run());
  expect_right_text(driver, 1, request);
}

TEST(Scheduler, DecodeRowsComeFirstAndMixWithPrefill) {
  Driver driver(small_options());
  driver.submit(1, endless(10, 50, 1));
  driver.submit(2, endless(20, 50, 2));
  driver.plan();
  driver.finish_one();
  driver.submit(3, endless(300, 5, 3));
  const StepPlan* plan = driver.plan();
  EXPECT_THAT(kinds(*plan), ElementsAre(RowKind::kDecode, RowKind::kDecode, RowKind::kPrefill));
  EXPECT_THAT(lengths(*plan), ElementsAre(1, 1, 256));
}

TEST(Scheduler, SeveralPromptsShareAStep) {
  Driver driver(small_options());
  for (RequestId id = 1; id <= 3; ++id) driver.submit(id, endless(100, 5, id));
  EXPECT_THAT(lengths(*driver.plan()), ElementsAre(100, 100)) << "56 tokens are left: no whole unit of 64";
  EXPECT_THAT(lengths(*driver.plan()), ElementsAre(1, 1, 100));
}

TEST(Scheduler, StopsAtAnEndOfSequenceTokenAndDiscardsWhatOverran) {
  Driver driver(small_options());
  std::vector<Request> requests;
  for (RequestId id = 1; id <= 8; ++id) {
    requests.push_back(make_request(20, 1000, id));
    driver.submit(id, requests.back());
  }
  EXPECT_TRUE(driver.run());
  for (RequestId id = 1; id <= 8; ++id) {
    expect_right_text(driver, id, requests[id - 1]);
    EXPECT_EQ(driver.texts[id].finish, FinishReason::kStop);
    EXPECT_EQ(driver.texts[id].stop_token, 3);
    EXPECT_EQ(driver.texts[id].tokens.back(), 3) << "the stop token is part of the output";
  }
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, StopTokenIdsStopEvenWhenEosIsIgnored) {
  Driver driver(small_options());
  Request request = endless(20, 1000);
  for (int32_t id = 40; id < 50; ++id) request.sampling.stop_token_ids.push_back(id);
  driver.submit(1, request);
  EXPECT_TRUE(driver.run());
  expect_right_text(driver, 1, request);
  EXPECT_GE(driver.texts[1].stop_token, 40);
}

TEST(Scheduler, MinNewTokensBlocksStopIds) {
  Driver driver(small_options());
  Request request = make_request(20, 400);
  request.sampling.min_new_tokens = 300;
  driver.submit(1, request);
  EXPECT_TRUE(driver.run());
  expect_right_text(driver, 1, request);
  EXPECT_GE(driver.texts[1].tokens.size(), 300u);
}

TEST(Scheduler, ARequestThatLeavesNoTokenToSampleEndsWithAnError) {
  Driver driver(small_options());
  Request request = make_request(20, 10);
  request.sampling.min_new_tokens = 5;
  for (int32_t id = 0; id < 97; ++id) request.sampling.stop_token_ids.push_back(id);
  driver.submit(1, request);
  EXPECT_TRUE(driver.run());
  EXPECT_EQ(driver.texts[1].finish, FinishReason::kError);
  EXPECT_THAT(driver.texts[1].tokens, IsEmpty());
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, WhereNothingExcludesTokensTheModelIsToBlameForNone) {
  Sequence sequence;
  sequence.samples_max = 10;
  EXPECT_THAT(accept_token(sequence, -1)->error, HasSubstr("not numbers"));
  sequence.request.sampling.logit_bias = {{.token = 3, .bias = -100.f}};
  EXPECT_THAT(accept_token(sequence, -1)->error, HasSubstr("logit_bias"));
}

TEST(Scheduler, TheContextLengthEndsATextThatAskedForMore) {
  Driver driver(small_options());
  driver.submit(1, endless(2000, 1000));
  EXPECT_TRUE(driver.run());
  EXPECT_THAT(driver.texts[1].tokens, SizeIs(48));
  EXPECT_EQ(driver.texts[1].finish, FinishReason::kLength);
}

TEST(Scheduler, PromptLogprobsComeWithTheFirstOutputFromThePositionAskedFor) {
  for (int32_t from : {0, 1, 250, 256, 257, 599}) {
    Driver driver(small_options());
    Request request = endless(600, 2);
    request.sampling.prompt_logprobs_from = from;
    driver.submit(1, request);
    EXPECT_TRUE(driver.run());
    const std::vector<OutputToken>& logprobs = driver.texts[1].prompt_logprobs;
    ASSERT_THAT(logprobs, SizeIs(600 - from));
    for (int32_t i = 0; i < 600 - from; ++i) {
      EXPECT_EQ(logprobs[i].id, request.prompt[from + i]);
      EXPECT_EQ(std::isnan(logprobs[i].logprob), from + i == 0) << "nothing predicts position 0";
    }
  }
}

TEST(Scheduler, RequestsJoinInTheOrderTheyCame) {
  SchedulerOptions options = small_options();
  options.slots = 1;
  Driver driver(options);
  driver.submit(1, endless(1000, 5, 1));
  driver.submit(2, endless(10, 5, 2));
  driver.submit(3, endless(10, 5, 3));
  std::vector<RequestId> order;
  while (!driver.scheduler.idle()) {
    while (driver.plan()) {
    }
    driver.finish_one();
    for (const auto& [id, text] : driver.texts) {
      if (text.finish && std::find(order.begin(), order.end(), id) == order.end()) order.push_back(id);
    }
  }
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(Scheduler, AdmissionLeavesEverybodyAPageToGrow) {
  SchedulerOptions options = small_options();
  options.pages = 5;
  Driver driver(options);
  driver.submit(1, endless(64, 64, 1));   // one page now, one to grow
  driver.submit(2, endless(128, 64, 2));  // two pages, one to grow
  driver.submit(3, endless(1, 1, 3));     // one page, none to grow: would be the sixth
  EXPECT_THAT(driver.plan()->rows, SizeIs(2));
  EXPECT_EQ(driver.scheduler.stats().queued, 1);
  EXPECT_TRUE(driver.run());
  EXPECT_EQ(driver.scheduler.stats().retractions_total, 0u);
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, OutOfPagesTheYoungestIsRetractedAndResumesWithTheSameText) {
  SchedulerOptions options = small_options();
  options.pages = 6;
  options.context_length = 6 * 64;
  Driver driver(options);
  Request old_request = endless(60, 300, 1), young = endless(60, 300, 2);
  driver.submit(1, old_request);
  driver.submit(2, young);
  bool swapped_out = false, swapped_in = false;
  for (int step = 0; step < 5000 && !driver.scheduler.idle(); ++step) {
    while (const StepPlan* plan = driver.plan()) {
      for (const SwapOp& swap : plan->swaps) {
        swapped_out |= swap.direction == SwapOp::Direction::kOut;
        swapped_in |= swap.direction == SwapOp::Direction::kIn;
      }
    }
    EXPECT_FALSE(swapped_out && !swapped_in && driver.texts[2].finish.has_value()) << "the younger one waits";
    driver.finish_one();
  }
  EXPECT_TRUE(swapped_out && swapped_in);
  EXPECT_EQ(driver.scheduler.stats().retractions_total, 1u);
  expect_right_text(driver, 1, old_request);
  expect_right_text(driver, 2, young);
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, ARetractedRequestIsServedBeforeTheQueue) {
  SchedulerOptions options = small_options();
  options.pages = 6;
  options.context_length = 6 * 64;
  Driver driver(options);
  driver.submit(1, endless(60, 300, 1));
  driver.submit(2, endless(60, 300, 2));
  while (driver.scheduler.stats().retracted == 0) {
    driver.plan();
    driver.finish_one();
  }
  driver.submit(3, endless(1, 1, 3));
  while (driver.scheduler.stats().retracted == 1) {
    EXPECT_FALSE(driver.texts.contains(3)) << "request 3 would fit, but 2 came first";
    driver.plan();
    driver.finish_one();
  }
  EXPECT_TRUE(driver.run());
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, AbortGivesOneLastOutputAndFreesWhenNoPlanNamesIt) {
  Driver driver(small_options());
  driver.submit(1, endless(100, 50));
  driver.plan();
  driver.plan();
  driver.abort(1);
  EXPECT_EQ(driver.texts[1].finish, FinishReason::kAbort);
  EXPECT_EQ(driver.scheduler.stats().pages_used, 2) << "two plans still write to its pages";
  driver.finish_one();
  EXPECT_EQ(driver.scheduler.stats().pages_used, 2);
  driver.finish_one();
  EXPECT_EQ(driver.scheduler.stats().pages_used, 0);
  EXPECT_TRUE(driver.run());
  EXPECT_TRUE(driver.clean()) << "the rank was told";
  driver.abort(1);
  driver.abort(77);
  EXPECT_EQ(driver.scheduler.stats().aborted_total, 1u) << "finished and unknown ids are ignored";
}

TEST(Scheduler, AbortWhileQueuedOrRetractedLeavesNothing) {
  SchedulerOptions options = small_options();
  options.pages = 6;
  options.context_length = 6 * 64;
  Driver driver(options);
  driver.submit(1, endless(60, 300, 1));
  driver.submit(2, endless(60, 300, 2));
  while (driver.scheduler.stats().retracted == 0) {
    driver.plan();
    driver.finish_one();
  }
  driver.submit(3, endless(60, 300, 3));
  driver.abort(2);
  driver.abort(3);
  EXPECT_TRUE(driver.run());
  EXPECT_TRUE(driver.clean()) << "the host buffer of request 2 was dropped";
}

TEST(Scheduler, AbortAllEndsEverything) {
  Driver driver(small_options());
  for (RequestId id = 1; id <= 20; ++id) driver.submit(id, endless(100, 50, id));
  driver.plan();
  EXPECT_THAT(driver.scheduler.abort_all(), SizeIs(20));
  EXPECT_TRUE(driver.run());
  EXPECT_TRUE(driver.clean());
}

TEST(Scheduler, SeedsAreDrawnForRequestsThatBringNone) {
  Scheduler scheduler(small_options());
  Request request = make_request(10, 1);
  request.sampling.seed.reset();
  scheduler.submit(1, request);
  scheduler.submit(2, request);
  StepPlan plan = *scheduler.next_plan();
  ASSERT_THAT(plan.starts, SizeIs(2));
  ASSERT_TRUE(plan.starts[0].sampling.seed && plan.starts[1].sampling.seed);
  EXPECT_NE(*plan.starts[0].sampling.seed, *plan.starts[1].sampling.seed);
}

TEST(Scheduler, StatsCountWhatIsThere) {
  Driver driver(small_options());
  for (RequestId id = 1; id <= 9; ++id) driver.submit(id, endless(20, 10, id));
  driver.plan();
  EngineStats stats = driver.scheduler.stats();
  EXPECT_EQ(stats.running, 8);
  EXPECT_EQ(stats.queued, 1);
  EXPECT_EQ(stats.kv_tokens_used, 160);
  EXPECT_EQ(stats.pages_used, 8);
  EXPECT_EQ(stats.slots_used, 8);
  EXPECT_EQ(stats.kv_tokens_max, 64 * 64);
  EXPECT_TRUE(driver.run());
  stats = driver.scheduler.stats();
  EXPECT_EQ(stats.requests_total, 9u);
  EXPECT_EQ(stats.prompt_tokens_total, 180u);
  EXPECT_EQ(stats.generated_tokens_total, 90u);
}

}  // namespace
}  // namespace hylas
