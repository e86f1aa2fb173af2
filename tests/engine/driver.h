#pragma once
// Driver: a Scheduler and a FakeRank with plans between them, one step at a time, so that a test decides when results
// come back.
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "engine/fake_rank.h"
#include "engine/scheduler.h"

namespace hylas {

inline Request make_request(int32_t prompt_tokens, int32_t max_new_tokens, uint64_t seed = 1) {
  Request request;
  for (int32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back(static_cast<int32_t>((seed * 31 + i * 7) % 89));
  request.sampling.max_new_tokens = max_new_tokens;
  request.sampling.seed = seed;
  return request;
}

// What came out of one request.
struct Text {
  std::vector<int32_t> tokens;
  std::optional<FinishReason> finish;
  int32_t stop_token = -1;
  std::vector<OutputToken> prompt_logprobs;
};

class Driver {
 public:
  explicit Driver(const SchedulerOptions& options) : options(options), scheduler(options), rank(options) {}

  void submit(RequestId id, Request request) { scheduler.submit(id, std::move(request)); }
  void abort(RequestId id) {
    if (std::optional<Output> output = scheduler.abort(id)) take(*output);
  }
  // Plans one step and sends it to the rank; null if there was nothing to plan.
  const StepPlan* plan() {
    std::optional<StepPlan> plan = scheduler.next_plan();
    if (!plan) return nullptr;
    sent.push_back(*std::move(plan));
    return &sent.back();
  }
  // The rank does its oldest plan and the result comes back.
  void finish_one() {
    StepResult result = rank.execute(sent.front());
    sent.pop_front();
    for (Output& output : scheduler.on_result(std::move(result))) take(output);
  }
  // Until nothing is left to do. False after `steps_max` steps.
  bool run(int steps_max = 100000) {
    for (int step = 0; step < steps_max; ++step) {
      while (plan()) {
      }
      if (sent.empty()) return scheduler.idle();
      finish_one();
    }
    return false;
  }
  // Whether no request left anything behind, in the scheduler or on the rank.
  bool clean() const {
    EngineStats stats = scheduler.stats();
    return scheduler.idle() && stats.pages_used == 0 && stats.slots_used == 0 && stats.running == 0 &&
           stats.queued == 0 && rank.forgot_everything();
  }

  SchedulerOptions options;
  Scheduler scheduler;
  FakeRank rank;
  std::deque<StepPlan> sent;
  std::map<RequestId, Text> texts;

 private:
  void take(Output& output) {
    Text& text = texts[output.id];
    HYLAS_CHECK(!text.finish, "an output of {} after its last", output.id);
    for (OutputToken& token : output.tokens) text.tokens.push_back(token.id);
    for (OutputToken& token : output.prompt_logprobs) text.prompt_logprobs.push_back(token);
    text.finish = output.finish;
    text.stop_token = output.stop_token;
  }
};

inline SchedulerOptions small_options() {
  SchedulerOptions options;
  options.pages = 64;
  options.page_size = 64;
  options.slots = 8;
  options.context_length = 2048;
  options.vocab_size = 97;
  options.prefill_tokens_max = 256;
  options.eos_ids = {3};
  return options;
}

}  // namespace hylas
