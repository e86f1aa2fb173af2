// Seeded simulation: random requests, aborts, dp groups, pipelines and result times (slow stages) over a tiny memory.
// Nothing hangs or leaks, every request ends, and every text is the one that its request alone determines.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "engine/driver.h"
#include "engine/prefill_policy.h"

namespace hylas {
namespace {

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed), driver_(random_options()) {}

  void run() {
    const int requests = between(1, 40);
    while (submitted_ < requests || !driver_.scheduler.idle()) {
      ASSERT_LT(++turns_, 200000) << "no progress";
      const int choice = between(0, 9);
      if (choice == 0 && submitted_ < requests) submit();
      if (choice == 1 && between(0, 9) == 0 && submitted_ > 0) abort(between(1, submitted_));
      if (choice <= 5) driver_.plan();
      if (choice >= 5 && !driver_.sent.empty()) driver_.finish_one();
      const EngineStats stats = driver_.scheduler.stats();
      ASSERT_LE(stats.running + stats.retracted, stats.slots_max);
    }
    check();
  }
  uint64_t retractions() const { return driver_.scheduler.stats().retractions_total; }

 private:
  int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  SchedulerOptions random_options() {
    SchedulerOptions options;
    options.page_size = 1 << between(0, 6);
    options.pages = between(1, 600) / options.page_size + 2;
    options.slots = between(1, 9);
    options.context_length = between(2, 500);
    options.vocab_size = 97;
    options.prefill_tokens_max = kChunkUnit * between(1, 4) + between(0, 1) * between(0, 63);
    options.stages = between(0, 1) ? 1 : between(2, 4);
    options.groups = between(0, 2) ? 1 : between(2, 3);
    options.decode_rows_max = between(0, 3) ? 0 : between(1, 3);
    options.plans_in_flight_max = options.stages == 1 ? between(1, 4) : options.stages + between(0, 3);
    options.eos_ids = {3};
    return options;
  }

  void submit() {
    Request request;
    const int tokens_max = sequence_tokens_max(driver_.options.limits());
    request.prompt.resize(between(1, tokens_max - 1));
    for (int32_t& token : request.prompt) token = between(0, 96);
    SamplingParams& sampling = request.sampling;
    sampling.max_new_tokens = between(1, 300);
    sampling.min_new_tokens = between(0, 3) ? 0 : between(0, sampling.max_new_tokens);
    sampling.ignore_eos = between(0, 1);
    sampling.seed = random_();
    if (between(0, 5) == 0) sampling.stop_token_ids = {between(0, 96), between(0, 96)};
    if (between(0, 3) == 0) sampling.prompt_logprobs_from = between(0, static_cast<int>(request.prompt.size()));
    driver_.submit(++submitted_, request);
    requests_.push_back(request);
  }

  void abort(int id) {
    driver_.abort(id);
    if (driver_.texts[id].finish == FinishReason::kAbort) aborted_.insert(id);
  }

  void check() {
    EXPECT_TRUE(driver_.clean());
    for (int id = 1; id <= submitted_; ++id) {
      const Text& text = driver_.texts[id];
      ExpectedText expected = expected_text(requests_[id - 1], driver_.options);
      ASSERT_TRUE(text.finish.has_value()) << "request " << id << " did not end";
      if (aborted_.contains(id)) {
        ASSERT_LE(text.tokens.size(), expected.tokens.size());
        expected.tokens.resize(text.tokens.size());
      } else {
        EXPECT_EQ(*text.finish, expected.finish) << "request " << id;
      }
      ASSERT_EQ(text.tokens, expected.tokens) << "request " << id;
    }
  }

  std::mt19937_64 random_;
  Driver driver_;
  std::vector<Request> requests_;
  std::set<int> aborted_;
  int submitted_ = 0;
  int turns_ = 0;
};

void simulate(uint64_t seed_begin, uint64_t seed_end) {
  uint64_t retractions = 0;
  for (uint64_t seed = seed_begin; seed < seed_end; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed);
    simulation.run();
    if (testing::Test::HasFailure()) return;
    retractions += simulation.retractions();
  }
  testing::Test::RecordProperty("retractions", static_cast<int64_t>(retractions));
  EXPECT_GT(retractions, seed_end - seed_begin) << "the memory was never tight: the simulation proves little";
}

TEST(SchedulerSimulation, RandomSchedulesKeepEveryPromise) { simulate(1, 101); }
TEST(SchedulerSimulationSlow, AThousandRandomSchedulesKeepEveryPromise) { simulate(101, 1001); }

}  // namespace
}  // namespace hylas
