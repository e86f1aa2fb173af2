// Prefill in one process, decode in another, each with a layout of its own: the text is one rank's, bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>

#include "base/log.h"
#include "engine/answers.h"
#include "engine/client.h"
#include "engine/disaggregation.h"
#include "engine/unruly_link.h"
#include "support/child_process.h"
#include "support/layout_models.h"
#include "support/test_device.h"

namespace hylas {
namespace {

using test::Answers;
using test::ChildProcess;
using test::LayoutKind;
using test::LayoutModel;
using test::LayoutOutcome;

struct Types {
  const char* kv = "auto";
  const char* state = "float32";
};

struct Case {
  LayoutModel model;
  ParallelSizes prefill, decode;
  Types types;
  const char* transports = "tcp";
  bool stage_prefill = false, stage_decode = false;  // as with GPUs
  std::string name() const {
    const auto sizes = [](const ParallelSizes& s) { return fmt::format("tp{}pp{}ep{}dp{}", s.tp, s.pp, s.ep, s.dp); };
    return fmt::format("{}_{}_to_{}_{}_{}_{}", model.name(), sizes(prefill), sizes(decode),
                       types.kv == std::string("auto") ? "kv" : "kv8",
                       types.state == std::string("float32") ? "s32" : "s16",
                       transports == std::string("tcp") ? "tcp" : "shm") +
           (stage_prefill ? "_staged" : "") + (stage_decode ? "_landing" : "");
  }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name(); }

EngineOptions options_of(const LayoutModel& model, const ParallelSizes& sizes, const Types& types) {
  const char* dtype = model.kind == LayoutKind::kDense && model.layers == 8 ? "float32" : "bfloat16";
  EngineOptions options = test::layout_options(layout_model_path(model), dtype, sizes);
  options.kv_cache_dtype = types.kv;
  options.state_dtype = types.state;
  options.disaggregation_secret = "shared";
  return options;
}

std::unique_ptr<Engine> start(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> started = Engine::start(options);
  HYLAS_CHECK(started.ok(), "{}", started.error().message);
  return *std::move(started);
}

// The answers of one process that does it all.
const LayoutOutcome& lone_rank(const LayoutModel& model, const Types& types) {
  static std::map<std::string, LayoutOutcome> known;
  const std::string key = model.name() + types.kv + types.state;
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const Answers answers;
  ChildProcess alone([&](const auto&) {
    answers.write(test::run_layout_workload(*start(options_of(model, {}, types))));
    return 0;
  });
  HYLAS_CHECK(alone.wait() == 0, "{}", alone.log());
  return known[key] = answers.read();
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// States went the way that was to be tested.
void expect_way(const std::string& log, const std::string& transports) {
  const bool is_shm = transports != "tcp";
  EXPECT_THAT(log, testing::HasSubstr(is_shm ? "through shared memory" : "over UCX: shared memory is switched off"));
  EXPECT_THAT(log, testing::Not(testing::HasSubstr(is_shm ? "over UCX" : "through shared memory")));
}

class Disaggregated : public testing::TestWithParam<Case> {};

TEST_P(Disaggregated, TheTextIsOneRanks) {
  const Case& c = GetParam();
  const LayoutOutcome& expected = lone_rank(c.model, c.types);
  setenv("UCX_TLS", c.transports, 1);
  const Bootstrap first{{"127.0.0.1", static_cast<uint16_t>(test::free_port())}, 7};
  ChildProcess prefill([&](const std::function<void()>& ready) {
    HYLAS_CHECK(log::init("info"));  // to stderr, where the test finds it
    EngineOptions options = options_of(c.model, c.prefill, c.types);
    options.role = InstanceRole::kPrefill;
    options.bootstrap = first.prefill;
    options.stage_transfers = c.stage_prefill;
    const auto engine = start(options);
    ready();
    test::prefill_layout_workload(*engine, first);
    engine->drain(10'000'000);
    return 0;
  });
  ASSERT_TRUE(prefill.wait_until_ready()) << prefill.log();
  const Answers answers;
  ChildProcess decode([&](const auto&) {
    HYLAS_CHECK(log::init("info"));
    EngineOptions options = options_of(c.model, c.decode, c.types);
    options.role = InstanceRole::kDecode;
    options.stage_transfers = c.stage_decode;
    answers.write(test::run_layout_workload(*start(options), first));
    return 0;
  });
  ASSERT_EQ(decode.wait(), 0) << decode.log() << prefill.log();
  ASSERT_EQ(prefill.wait(), 0) << prefill.log();
  expect_way(prefill.log(), c.transports);
  const bool is_gpu = test::test_device() != "cpu";
  EXPECT_EQ(contains(prefill.log(), "states leave through host memory"), c.stage_prefill || is_gpu);
  EXPECT_EQ(contains(decode.log(), "states land in host memory"), c.stage_decode || is_gpu);
  const LayoutOutcome got = answers.read();
  ASSERT_EQ(got.said.size(), expected.said.size());
  for (const auto& [index, said] : expected.said) {
    EXPECT_EQ(got.said.at(index).tokens, said.tokens) << "request " << index;
    EXPECT_EQ(got.said.at(index).logprob_bits, said.logprob_bits) << "request " << index;
  }
}

// tp 1, 2, 4 x pp 1 - 4 x ep 1, 2 x dp 1, 2, up to `ranks_max`.
std::vector<ParallelSizes> layouts(bool with_experts, int ranks_max) {
  std::vector<ParallelSizes> all;
  for (int tp : {1, 2, 4}) {
    for (int pp : {1, 2, 3, 4}) {
      for (int ep : {1, 2}) {
        for (int dp : {1, 2}) {
          if (tp * pp > ranks_max || tp % ep != 0 || tp % dp != 0 || (ep > 1 && !with_experts)) continue;
          all.push_back({.tp = tp, .pp = pp, .ep = ep, .dp = dp});
        }
      }
    }
  }
  return all;
}

constexpr const char* kTcp = "tcp";
constexpr const char* kShm = "shm,tcp";
constexpr Types kTypes[] = {{"auto", "float32"}, {"fp8_e4m3", "float32"}, {"auto", "float16"}, {"fp8_e4m3", "float16"}};

constexpr LayoutKind kKinds[] = {LayoutKind::kDense, LayoutKind::kMoe, LayoutKind::kMoeFp8};

// Each prefill layout of up to 8 ranks with one decode layout, so that all of these come, too.
std::vector<Case> one_pair_each() {
  std::vector<Case> cases;
  size_t turn = 0;
  for (int layers : {8, 5}) {
    for (LayoutKind kind : kKinds) {
      const std::vector<ParallelSizes> all = layouts(kind != LayoutKind::kDense, 8);
      for (size_t i = 0; i < all.size(); ++i) {
        // 5 and the number of layouts have no common divisor: a permutation.
        const size_t j = (i * 5 + 3 + layers) % all.size();
        cases.push_back({{kind, layers},
                         all[i],
                         all[j],
                         kTypes[turn % 4],
                         turn / 4 % 2 ? kShm : kTcp,
                         turn / 8 % 2 == 1,
                         turn / 16 % 2 == 1});
        ++turn;
      }
    }
  }
  return cases;
}

// Every layout with every other, in all types, both ways: tens of thousands. In no order: GoogleTest's shuffling takes
// neighbours in turn (nearly all of a sample went over TCP).
std::vector<Case> every_pair() {
  std::vector<Case> cases;
  for (int layers : {8, 5}) {
    for (LayoutKind kind : kKinds) {
      const std::vector<ParallelSizes> all = layouts(kind != LayoutKind::kDense, 16);
      for (const ParallelSizes& prefill : all) {
        for (const ParallelSizes& decode : all) {
          for (const Types& types : kTypes) {
            for (const char* transports : {kTcp, kShm})
              cases.push_back({{kind, layers}, prefill, decode, types, transports});
          }
        }
      }
    }
  }
  std::shuffle(cases.begin(), cases.end(), std::mt19937_64(1));
  for (size_t i = 0; i < cases.size(); ++i) {
    cases[i].stage_prefill = i % 2 == 1;
    cases[i].stage_decode = i / 2 % 2 == 1;
  }
  return cases;
}

// The seed's pair in small, and one of everything.
std::vector<Case> some_pairs() {
  const LayoutModel moe{LayoutKind::kMoe, 8}, dense{LayoutKind::kDense, 5}, fp8{LayoutKind::kMoeFp8, 5};
  return {{moe, {.tp = 2, .pp = 4}, {.tp = 4, .ep = 2, .dp = 2}, kTypes[3], kTcp},
          {moe, {.tp = 1, .pp = 1}, {.tp = 1, .pp = 1}, kTypes[0], kShm},
          {dense, {.tp = 4, .pp = 1}, {.tp = 1, .pp = 3}, kTypes[1], kTcp},
          {dense, {.tp = 1, .pp = 2}, {.tp = 4, .pp = 2}, kTypes[0], kTcp},
          {fp8, {.tp = 2, .pp = 2, .ep = 2, .dp = 2}, {.tp = 2, .pp = 3}, kTypes[2], kShm}};
}

// Through host memory on either side or both, in f32 so that GPUs say the same (scripts/gpu_test.sh).
std::vector<Case> staged_pairs() {
  const LayoutModel dense{LayoutKind::kDense, 8};
  return {{dense, {}, {}, kTypes[0], kShm, true, true},
          {dense, {}, {}, kTypes[3], kTcp, true, true},
          {dense, {.tp = 2, .pp = 2}, {.tp = 4, .dp = 2}, kTypes[1], kShm, true, true},
          {dense, {.tp = 2, .dp = 2}, {.tp = 1, .pp = 3}, kTypes[2], kTcp, false, true},
          {dense, {.tp = 1, .pp = 2}, {.tp = 2}, kTypes[0], kShm, true, false}};
}

struct Way {
  const char* transports;
  bool is_staged = false;  // on both sides
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.transports; }

// One process with a link that misbehaves prefills, another decodes. What the prefilling one said, to look at.
std::string run_over(const Way& way, const test::Unruliness& unruliness, bool expect_text) {
  const char* transports = way.transports;
  const LayoutModel model{LayoutKind::kMoe, 8};
  const LayoutOutcome& expected = lone_rank(model, {});
  setenv("UCX_TLS", transports, 1);
  const Bootstrap first{{"127.0.0.1", static_cast<uint16_t>(test::free_port())}, 7};
  ChildProcess prefill([&](const std::function<void()>& ready) {
    HYLAS_CHECK(log::init("info"));  // to stderr, where the test finds it
    EngineOptions options = options_of(model, {.tp = 2, .pp = 2}, {});
    options.role = InstanceRole::kPrefill;
    options.stage_transfers = way.is_staged;
    options.bootstrap = first.prefill;
    Result<std::unique_ptr<Link>> link = make_nearest_link(allows_shm(transports), {});
    HYLAS_CHECK(link.ok());
    auto engine = start_engine(options, test::make_unruly_link(std::move(link).value(), unruliness));
    HYLAS_CHECK(engine.ok(), "{}", engine.error().message);
    ready();
    if (expect_text) test::prefill_layout_workload(**engine, first);
    if (!expect_text) test::prefill_again_after_a_cut(**engine, first);
    return 0;
  });
  EXPECT_TRUE(prefill.wait_until_ready()) << prefill.log();
  const Answers answers;
  ChildProcess decode([&](const auto&) {
    EngineOptions options = options_of(model, {.tp = 2, .dp = 2}, {});
    options.role = InstanceRole::kDecode;
    options.stage_transfers = way.is_staged;
    const auto engine = start(options);
    if (!expect_text) test::decode_again_after_a_cut(*engine, first);
    if (expect_text) answers.write(test::run_layout_workload(*engine, first));
    return 0;
  });
  EXPECT_EQ(decode.wait(), 0) << decode.log() << prefill.log();
  EXPECT_EQ(prefill.wait(), 0) << prefill.log();
  if (expect_text) {
    EXPECT_EQ(answers.read().said, expected.said);
  }
  expect_way(prefill.log(), transports);
  return prefill.log();
}

class DisaggregatedOverAnUnrulyLink : public testing::TestWithParam<Way> {};

TEST_P(DisaggregatedOverAnUnrulyLink, LateAndReorderedPutsChangeNothing) { run_over(GetParam(), {.seed = 5}, true); }

TEST_P(DisaggregatedOverAnUnrulyLink, OneFlippedBitIsSeenAndThePromptIsPrefilledAgain) {
  EXPECT_THAT(run_over(GetParam(), {.damaged_put = 9}, true),
              testing::HasSubstr("a state arrived wrong at peer 0: prefilling"));
}

TEST_P(DisaggregatedOverAnUnrulyLink, ACutEndsWhatIsUnderWayAndTheNextRequestsGoOverANewPath) {
  EXPECT_THAT(run_over(GetParam(), {.cut_at_put = 5}, false), testing::HasSubstr("peer 1"));
}

TEST(DisaggregatedPairs, HaveEveryLayoutOnBothSides) {
  std::map<std::string, std::pair<int, int>> times;
  for (const Case& c : one_pair_each()) {
    const auto key = [&](const ParallelSizes& s) {
      return fmt::format("{} {} {} {} {}", c.model.name(), s.tp, s.pp, s.ep, s.dp);
    };
    ++times[key(c.prefill)].first;
    ++times[key(c.decode)].second;
  }
  for (const auto& [key, count] : times) EXPECT_EQ(count, std::pair(1, 1)) << key;
}

INSTANTIATE_TEST_SUITE_P(Ways, DisaggregatedOverAnUnrulyLink, testing::Values(Way{kTcp}, Way{kShm}, Way{kShm, true}),
                         [](const auto& info) {
                           const char* name = info.param.transports == std::string("tcp") ? "tcp" : "shm";
                           return name + std::string(info.param.is_staged ? "_staged" : "");
                         });
INSTANTIATE_TEST_SUITE_P(Some, Disaggregated, testing::ValuesIn(some_pairs()),
                         [](const auto& info) { return info.param.name(); });
INSTANTIATE_TEST_SUITE_P(Staged, Disaggregated, testing::ValuesIn(staged_pairs()),
                         [](const auto& info) { return info.param.name(); });
INSTANTIATE_TEST_SUITE_P(MatrixSlow, Disaggregated, testing::ValuesIn(one_pair_each()),
                         [](const auto& info) { return info.param.name(); });
// docs/development.md says how to run a sample of them.
INSTANTIATE_TEST_SUITE_P(DISABLED_Whole, Disaggregated, testing::ValuesIn(every_pair()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace hylas
