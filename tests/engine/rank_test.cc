// One rank and plans written by hand.
#include "engine/rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "engine/startup.h"
#include "support/tiny_model.h"

namespace hylas {
namespace {

using test::kTinyVocab;
using testing::IsEmpty;
using testing::SizeIs;

class RankTest : public testing::Test {
 protected:
  static Startup make() {
    EngineOptions options = test::tiny_engine_options();
    options.dtype = "float32";
    options.max_running_requests = 4;
    options.max_total_tokens = 20 * 64;
    return start_up(options).value();
  }
  StepResult execute(StepPlan plan) {
    plan.id = ++plans_;
    return startup_.ranks[0]->execute_and_settle(plan);
  }
  static SequenceStart start(SequenceIndex sequence) {
    SequenceStart start;
    start.sequence = sequence;
    start.sampling.seed = 1;
    start.sampling.temperature = 0;
    return start;
  }
  static std::vector<int32_t> prompt(int32_t tokens) {
    std::vector<int32_t> ids(tokens);
    for (int32_t i = 0; i < tokens; ++i) ids[i] = (i * 37 + 5) % kTinyVocab;
    return ids;
  }
  static PlanRow prefill(SequenceIndex sequence, std::vector<int32_t> tokens, std::vector<int32_t> pages,
                         int32_t slot) {
    PlanRow row;
    row.sequence = sequence;
    row.length = static_cast<int32_t>(tokens.size());
    row.tokens = std::move(tokens);
    row.pages = std::move(pages);
    row.state_write = slot;
    row.want_logits = true;
    return row;
  }
  static PlanRow decode(SequenceIndex sequence, int32_t position, int32_t token, std::vector<int32_t> pages,
                        int32_t read, int32_t write) {
    PlanRow row = prefill(sequence, {token}, std::move(pages), write);
    row.kind = RowKind::kDecode;
    row.begin = position;
    row.state_read = read;
    return row;
  }

  Startup startup_ = make();
  uint64_t plans_ = 0;
};

TEST_F(RankTest, LogitsOfEveryTokenComeBackInBlocks) {
  StepPlan plan;
  plan.starts = {start(0)};
  plan.rows = {prefill(0, prompt(200), {0, 1, 2, 3}, 0)};
  plan.rows[0].sample = true;
  StepResult result = execute(plan);
  ASSERT_THAT(result.rows, SizeIs(1));
  const std::vector<float>& logits = result.rows[0].logits;
  ASSERT_THAT(logits, SizeIs(200 * kTinyVocab));
  auto last = logits.end() - kTinyVocab;
  EXPECT_EQ(result.rows[0].sampled.token, std::max_element(last, logits.end()) - last);
}

// What a prefix snapshot and a rejected draft need: the state goes on from the copy as it would from the original.
TEST_F(RankTest, ACopiedStateGoesOnLikeTheOriginal) {
  StepPlan first;
  first.starts = {start(0)};
  first.rows = {prefill(0, prompt(100), {0, 1}, 0)};
  first.copies = {{0, 3}};
  execute(first);
  StepPlan original, copy;
  original.rows = {decode(0, 100, 9, {0, 1}, 0, 0)};
  copy.rows = {decode(0, 100, 9, {0, 1}, 3, 2)};
  const std::vector<float> expected = execute(original).rows[0].logits;
  EXPECT_EQ(execute(copy).rows[0].logits, expected);
  EXPECT_EQ(execute(copy).rows[0].logits, expected) << "read and write slot differ: the copy itself did not advance";
}

TEST_F(RankTest, ASequenceThatWentOutAndCameBackGoesOnWhereItWas) {
  StepPlan begin;
  begin.starts = {start(0), start(1)};
  begin.rows = {prefill(0, prompt(100), {0, 1}, 0), prefill(1, prompt(100), {2, 3}, 1)};
  execute(begin);
  StepPlan expected;
  expected.rows = {decode(0, 100, 9, {0, 1}, 0, 0)};
  const std::vector<float> logits = execute(expected).rows[0].logits;

  StepPlan out;  // sequence 1 goes; another one takes its pages and slot in the same plan
  out.swaps = {{SwapOp::Direction::kOut, 1, {2, 3}, 1}};
  out.starts = {start(2)};
  out.rows = {prefill(2, prompt(90), {3, 2}, 1)};
  execute(out);
  StepPlan in;
  in.swaps = {{SwapOp::Direction::kIn, 1, {7, 5}, 2}};
  in.rows = {decode(1, 100, 9, {7, 5}, 2, 2)};
  EXPECT_EQ(execute(in).rows[0].logits, logits);
}

TEST_F(RankTest, PromptLogprobsCrossChunks) {
  std::vector<int32_t> ids = prompt(100);
  StepPlan whole, head, tail;
  whole.starts = {start(0), start(1)};
  whole.rows = {prefill(0, ids, {0, 1}, 0)};
  whole.rows[0].prompt_logprobs_from = 1;
  StepResult expected = execute(whole);
  ASSERT_THAT(expected.rows[0].prompt_logprobs, SizeIs(99));

  head.rows = {prefill(1, {ids.begin(), ids.begin() + 64}, {2, 3}, 1)};
  head.rows[0].prompt_logprobs_from = 60;
  head.rows[0].next_token = ids[64];
  tail.rows = {prefill(1, {ids.begin() + 64, ids.end()}, {2, 3}, 1)};
  tail.rows[0].begin = 64;
  tail.rows[0].state_read = 1;
  tail.rows[0].prompt_logprobs_from = 60;
  std::vector<OutputToken> logprobs = execute(head).rows[0].prompt_logprobs;
  EXPECT_THAT(logprobs, SizeIs(5));
  const StepResult second = execute(tail);
  for (const OutputToken& token : second.rows[0].prompt_logprobs) logprobs.push_back(token);
  ASSERT_THAT(logprobs, SizeIs(40));
  for (size_t i = 0; i < logprobs.size(); ++i) {
    EXPECT_EQ(logprobs[i].id, ids[60 + i]);
    EXPECT_EQ(logprobs[i].logprob, expected.rows[0].prompt_logprobs[59 + i].logprob) << "position " << 60 + i;
  }
}

// Four sequences with the same prompt: two whose tokens the host waits for at every step (logprobs, a penalty of
// nothing), and two that are drawn ahead, one of them in every second step alone with those that wait. With plans out
// before the results of the ones before are taken, all say the same.
TEST_F(RankTest, TokensDrawnAheadAreThoseThatTheHostWaitsFor) {
  constexpr int32_t kPrompt = 60, kTokens = 12;
  Rank& rank = *startup_.ranks[0];
  std::vector<std::vector<int32_t>> said(4);
  std::deque<StepResult> open;
  const auto take_oldest = [&] {
    while (!rank.settle(open.front())) std::this_thread::yield();
    for (const RowResult& row : open.front().rows) said[row.sequence].push_back(row.sampled.token);
    open.pop_front();
  };
  const auto run = [&](StepPlan plan) {
    plan.id = ++plans_;
    open.push_back(rank.execute(plan));
    if (open.size() == 3) take_oldest();
  };
  const auto next = [&](SequenceIndex sequence, int32_t step) {
    PlanRow row = decode(sequence, kPrompt + step - 1, 0, {2 * sequence, 2 * sequence + 1}, sequence, sequence);
    row.tokens.clear();
    row.want_logits = false;
    row.sample = true;
    row.step = step;
    return row;
  };
  StepPlan first;
  for (SequenceIndex s = 0; s < 4; ++s) {
    first.starts.push_back(start(s));
    first.rows.push_back(prefill(s, prompt(kPrompt), {2 * s, 2 * s + 1}, s));
    first.starts.back().sampling.temperature = 0.9f;
    first.rows.back().want_logits = false;
    first.rows.back().sample = true;
  }
  first.starts[0].sampling.top_logprobs = 0;
  first.starts[1].sampling.repetition_penalty = 1.0001f;  // too little to change a token here
  run(first);
  for (int32_t step = 1; step < kTokens; ++step) {
    StepPlan waiting, ahead;
    waiting.rows = {next(0, step), next(1, step)};
    ahead.rows = {next(2, step)};
    (step % 2 == 0 ? waiting : ahead).rows.push_back(next(3, step));
    run(waiting);
    run(ahead);
  }
  while (!open.empty()) take_oldest();
  ASSERT_THAT(said[0], SizeIs(kTokens));
  EXPECT_EQ(said[1], said[0]);
  EXPECT_EQ(said[2], said[0]);
  EXPECT_EQ(said[3], said[0]);
}

TEST_F(RankTest, RowsThatProduceNothingHaveNoResult) {
  StepPlan plan;
  plan.starts = {start(0)};
  plan.rows = {prefill(0, prompt(64), {0}, 0)};
  plan.rows[0].want_logits = false;
  EXPECT_THAT(execute(plan).rows, IsEmpty());
  StepPlan housekeeping;
  housekeeping.ends = {0};
  EXPECT_THAT(execute(housekeeping).rows, IsEmpty());
}

}  // namespace
}  // namespace hylas
