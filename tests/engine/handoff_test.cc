// Prefill on one instance, decode on another: what each side promises the other and its clients, on fake ranks whose
// text depends on every byte that a state has (engine/fake_rank.h). The simulation lets everything happen in any order.
#include <gtest/gtest.h>

#include <random>

#include "base/clock.h"
#include "engine/instance_pair.h"
#include "engine/prefill_policy.h"

namespace hylas {
namespace {

InstancePair small_pair() {
  return {with_role(small_options(), InstanceRole::kPrefill), with_role(small_options(), InstanceRole::kDecode)};
}

TEST(Handoff, TheTextIsTheOneThatOneInstanceWouldWrite) {
  InstancePair pair = small_pair();
  const Request request = make_request(300, 20);
  submit(pair, 1, request);
  pair.run_until_idle();
  EXPECT_EQ(pair.decode.texts[1].tokens, expected_text(request, pair.decode.options).tokens);
  EXPECT_EQ(pair.prefill.texts[1].tokens.size(), 1u) << "the router hears the first token there";
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, PagesGoOutWithTheChunkThatFillsThemAndTheSlotWithTheLastOne) {
  InstancePair pair = small_pair();  // chunks of 256, pages of 64
  submit(pair, 1, make_request(300, 2));
  ASSERT_TRUE(pair.plan(pair.decode) || true);
  ASSERT_TRUE(pair.deliver_to_prefill());
  ASSERT_TRUE(pair.plan(pair.prefill));
  ASSERT_EQ(pair.prefill.sent.back().sends.size(), 1u);
  EXPECT_EQ(pair.prefill.sent.back().sends[0].part.from_pages.size(), 4u);
  EXPECT_EQ(pair.prefill.sent.back().sends[0].part.from_slot, -1);
  ASSERT_TRUE(pair.plan(pair.prefill));
  ASSERT_EQ(pair.prefill.sent.back().sends.size(), 1u);
  EXPECT_EQ(pair.prefill.sent.back().sends[0].part.first_page, 4);
  EXPECT_EQ(pair.prefill.sent.back().sends[0].part.from_pages.size(), 1u);
  EXPECT_GE(pair.prefill.sent.back().sends[0].part.from_slot, 0);
  pair.run_until_idle();
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, NothingIsPrefilledBeforeMemoryIsGranted) {
  InstancePair pair = small_pair();
  pair.submit_prefill(1, 101, make_request(100, 5));
  EXPECT_FALSE(pair.plan(pair.prefill));
  EXPECT_EQ(pair.prefill.scheduler.stats().pages_used, 0);
}

TEST(Handoff, ADecodingInstanceWithoutMemoryGrantsNothing) {
  SchedulerOptions decode = with_role(small_options(), InstanceRole::kDecode);
  decode.slots = 1;
  InstancePair pair(with_role(small_options(), InstanceRole::kPrefill), decode);
  submit(pair, 1, make_request(100, 5, 1));
  submit(pair, 2, make_request(100, 5, 2));
  pair.plan(pair.decode);
  ASSERT_TRUE(pair.deliver_to_prefill());
  EXPECT_FALSE(pair.deliver_to_prefill()) << "one slot, one grant";
  pair.run_until_idle();
  EXPECT_EQ(pair.decode.texts[2].tokens, expected_text(make_request(100, 5, 2), decode).tokens);
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, AStateThatArrivesWrongIsPrefilledAgain) {
  InstancePair pair = small_pair();
  const Request request = make_request(200, 10);
  pair.damage_next_state();
  submit(pair, 1, request);
  pair.run_until_idle();
  EXPECT_EQ(pair.decode.texts[1].tokens, expected_text(request, pair.decode.options).tokens);
  EXPECT_EQ(pair.prefill.scheduler.stats().prompt_tokens_total, 400u);
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, TheFirstTokenMayBeTheLast) {
  InstancePair pair = small_pair();
  const Request request = make_request(70, 1);
  submit(pair, 1, request);
  pair.run_until_idle();
  EXPECT_EQ(pair.decode.texts[1].tokens, expected_text(request, pair.decode.options).tokens);
  EXPECT_EQ(pair.decode.texts[1].finish, FinishReason::kLength);
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, PromptLogprobsComeWithTheFirstToken) {
  InstancePair pair = small_pair();
  Request request = make_request(300, 3);
  request.sampling.prompt_logprobs_from = 0;
  submit(pair, 1, request);
  pair.run_until_idle();
  ASSERT_EQ(pair.decode.texts[1].prompt_logprobs.size(), 300u);
  EXPECT_EQ(pair.decode.texts[1].prompt_logprobs[299].id, request.prompt[299]);
}

TEST(Handoff, ADifferentPromptIsRefusedOnBothSides) {
  InstancePair pair = small_pair();
  pair.submit_prefill(1, 101, make_request(100, 5, 1));
  pair.submit_decode(1, 101, make_request(100, 5, 2));
  pair.run_until_idle();
  EXPECT_EQ(pair.prefill.texts[1].finish, FinishReason::kError);
  EXPECT_EQ(pair.decode.texts[1].finish, FinishReason::kError);
  EXPECT_FALSE(pair.decode.may_retry[1]) << "another instance would see the same prompts";
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, AGrantWhoseRequestDoesNotComeEndsWithItsLease) {
  InstancePair pair = small_pair();
  pair.submit_decode(1, 101, make_request(100, 5));
  pair.now_s = static_cast<int32_t>(now_us() / 1'000'000);
  pair.run_until_idle();
  EXPECT_FALSE(pair.decode.texts[1].finish);
  pair.now_s += 31;
  pair.plan(pair.prefill);
  pair.run_until_idle();
  EXPECT_EQ(pair.decode.texts[1].finish, FinishReason::kError);
  EXPECT_TRUE(pair.decode.may_retry[1]);
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, MemoryOfASilentInstanceStaysTakenUntilItIsHeard) {
  InstancePair pair = small_pair();
  submit(pair, 1, make_request(200, 10));
  pair.plan(pair.decode);
  pair.deliver_to_prefill();
  pair.plan(pair.prefill);
  pair.finish_one(pair.prefill);
  ASSERT_EQ(pair.parts(), 1u);
  pair.stall();
  EXPECT_EQ(pair.decode.texts[1].finish, FinishReason::kError);
  EXPECT_TRUE(pair.decode.may_retry[1]);
  EXPECT_GT(pair.decode.scheduler.stats().pages_used, 0) << "the part may still be written";
  pair.run_until_idle();
  EXPECT_TRUE(pair.clean());
}

TEST(Handoff, ALostConnectionEndsWhatHasNotLanded) {
  InstancePair pair = small_pair();
  submit(pair, 1, make_request(200, 10));
  pair.plan(pair.decode);
  pair.deliver_to_prefill();
  pair.plan(pair.prefill);
  pair.lose_connection();
  EXPECT_TRUE(pair.decode.may_retry[1]);
  pair.run_until_idle();
  EXPECT_TRUE(pair.prefill.may_retry[1]);
  EXPECT_TRUE(pair.clean());
}

// Random instances, requests, disconnects, damage, losses and silences; the test is the router that tries again.
class HandoffSimulation {
 public:
  explicit HandoffSimulation(uint64_t seed) : random_(seed), pair_(random_pair()) {}

  void run() {
    const int requests = between(1, 25);
    while (submitted_ < requests || !waiting_.empty() || !pair_.idle()) {
      ASSERT_LT(++turns_, 300000) << "no progress: " << state();
      step(requests);
      ask_again();
    }
    check();
  }
  int retries() const { return retries_; }

 private:
  struct Asked {
    Request request;
    bool is_aborted = false;
    RequestId id = 0;  // of the last try
  };

  std::string state() {
    std::string text;
    for (const Side* side : {&pair_.prefill, &pair_.decode}) {
      const EngineStats stats = side->scheduler.stats();
      text += fmt::format("{} running, {} queued, {} transfers, {} of {} pages, {} of {} slots, {} plans; ",
                          stats.running, stats.queued, stats.transfers, stats.pages_used, stats.pages_max,
                          stats.slots_used, stats.slots_max, side->sent.size());
    }
    text += fmt::format("{} parts, handoffs idle {};", pair_.parts(), pair_.idle());
    for (int number : waiting_) {
      const RequestId id = asked_[number].id;
      text += fmt::format(" request {} as {}: prefill {}, decode {}", number, id,
                          pair_.prefill.texts[id].finish.has_value(), pair_.decode.texts[id].finish.has_value());
    }
    return text;
  }
  int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  SchedulerOptions random_side(InstanceRole role) {
    SchedulerOptions options;
    options.role = role;
    options.slots = between(1, 6);
    options.context_length = 500;
    options.vocab_size = 97;
    options.prefill_tokens_max = kChunkUnit * between(1, 4);
    options.stages = between(0, 1) ? 1 : between(2, 4);
    options.groups = between(0, 2) ? 1 : between(2, 3);
    options.group_ranks = options.stages * between(1, 2);
    options.plans_in_flight_max = options.stages == 1 ? between(1, 4) : options.stages + between(0, 3);
    options.eos_ids = {3};
    return options;
  }
  InstancePair random_pair() {
    SchedulerOptions prefill = random_side(InstanceRole::kPrefill), decode = random_side(InstanceRole::kDecode);
    prefill.page_size = decode.page_size = 1 << between(0, 6);
    decode.pages = between(100, 700) / decode.page_size + 2;
    prefill.pages = decode.pages + between(0, 10);
    if (between(0, 1)) {
      decode.landing_slots = between(1, 4);
      decode.landing_pages = decode.longest_prompt_pages() + between(0, 8);
    }
    return {prefill, decode};
  }

  void step(int requests) {
    const int choice = between(0, 19);
    if (choice == 0 && submitted_ < requests) submit();
    if (choice <= 5) pair_.plan(pair_.prefill);
    if (choice >= 3 && choice <= 9) pair_.plan(pair_.decode);
    if (choice >= 8 && choice <= 12) pair_.finish_one(pair_.prefill);
    if (choice >= 10 && choice <= 14 && between(1, decode_pace_) == 1) pair_.finish_one(pair_.decode);
    if (choice >= 13 && pair_.parts() > 0) pair_.deliver_part(between(0, static_cast<int>(pair_.parts()) - 1));
    if (choice % 3 == 0) pair_.deliver_copied();
    if (choice % 4 == 0) pair_.deliver_to_prefill();
    if (choice % 4 == 1) pair_.deliver_to_decode();
    const int fault = between(0, 999);
    if (fault < 2 && submitted_ > 0) abort(between(1, submitted_));
    if (fault == 2) pair_.damage_next_state();
    if (fault == 3) pair_.lose_connection();
    if (fault == 4) pair_.stall();
  }

  void submit() {
    Request request;
    request.prompt.resize(between(1, sequence_tokens_max(pair_.decode.options.limits()) - 1));
    for (int32_t& token : request.prompt) token = between(0, 96);
    request.sampling.max_new_tokens = between(1, 100);
    request.sampling.min_new_tokens = between(0, 3) ? 0 : between(0, request.sampling.max_new_tokens);
    request.sampling.ignore_eos = between(0, 1);
    request.sampling.seed = random_();
    asked_[++submitted_].request = request;
    ask(submitted_);
  }
  // The two halves arrive at different times: the second one waits here.
  void ask(int number) {
    Asked& asked = asked_[number];
    asked.id = ++ids_;
    const RequestId id = asked.id;
    const bool prefill_first = between(0, 1);
    const auto half = [this, number, id](bool is_prefill) {
      if (asked_[number].is_aborted || asked_[number].id != id) return;  // the router has closed the connection
      const Request& request = asked_[number].request;
      if (is_prefill) pair_.submit_prefill(id, id, request);
      if (!is_prefill) pair_.submit_decode(id, id, request);
    };
    half(prefill_first);
    late_.emplace_back([half, prefill_first] { half(!prefill_first); });
    waiting_.insert(number);
  }
  void abort(int number) {
    Asked& asked = asked_[number];
    if (pair_.decode.texts[asked.id].finish) return;
    asked.is_aborted = true;
    const bool prefill_first = between(0, 1);
    if (prefill_first) pair_.abort_prefill(asked.id);
    pair_.abort_decode(asked.id);
    if (!prefill_first) pair_.abort_prefill(asked.id);
    waiting_.erase(number);
  }
  void ask_again() {
    if (!late_.empty() && between(0, 9) == 0) {
      const auto half = std::move(late_.front());
      late_.pop_front();
      half();
    }
    for (int number : std::set(waiting_)) {
      const RequestId id = asked_[number].id;
      const bool prefill_failed = pair_.prefill.texts[id].finish == FinishReason::kError;
      const Text& text = pair_.decode.texts[id];
      if (text.finish && text.finish != FinishReason::kError) {
        waiting_.erase(number);
      } else if (text.finish || (prefill_failed && text.tokens.empty())) {
        ASSERT_TRUE(text.tokens.empty()) << "a stream that had begun was lost";
        pair_.abort_decode(id);
        pair_.abort_prefill(id);
        ++retries_;
        ask(number);
      }
    }
  }

  void check() {
    EXPECT_TRUE(pair_.clean());
    for (const auto& [number, asked] : asked_) {
      const Text& text = pair_.decode.texts[asked.id];
      const ExpectedText expected = expected_text(asked.request, pair_.decode.options);
      if (asked.is_aborted) continue;
      ASSERT_TRUE(text.finish.has_value()) << "request " << number << " did not end";
      EXPECT_EQ(text.tokens, expected.tokens) << "request " << number;
      EXPECT_EQ(*text.finish, expected.finish) << "request " << number;
    }
  }

  std::mt19937_64 random_;
  InstancePair pair_;
  // Where the decoding ranks are slow, memory that is given away too early is written before they have read it.
  const int decode_pace_ = between(0, 2) ? 1 : 30;
  std::map<int, Asked> asked_;
  std::set<int> waiting_;
  std::deque<std::function<void()>> late_;
  int submitted_ = 0, turns_ = 0, retries_ = 0;
  RequestId ids_ = 0;
};

void simulate(uint64_t seed_begin, uint64_t seed_end) {
  int retries = 0;
  for (uint64_t seed = seed_begin; seed < seed_end; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    HandoffSimulation simulation(seed);
    simulation.run();
    if (testing::Test::HasFailure()) return;
    retries += simulation.retries();
  }
  EXPECT_GT(retries, static_cast<int>(seed_end - seed_begin) / 4) << "hardly anything went wrong: this proves little";
}

TEST(HandoffSimulation, RandomFaultsLoseNothing) { simulate(1, 101); }
TEST(HandoffSimulationSlow, AThousandRandomSchedulesLoseNothing) { simulate(101, 1001); }

}  // namespace
}  // namespace hylas
