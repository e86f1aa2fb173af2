// Every layout of ranks says, bit for bit, what one rank says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <random>

#include "engine/client.h"
#include "support/goldens.h"
#include "support/layout_models.h"

namespace hylas {
namespace {

using test::LayoutKind;
using test::LayoutModel;

std::string name_of(const ParallelSizes& s) { return fmt::format("tp{}_pp{}_ep{}_dp{}", s.tp, s.pp, s.ep, s.dp); }

// tp 1, 2, 4 x pp 1 - 4 x ep x dp, up to 8 ranks.
std::vector<ParallelSizes> layouts(bool with_experts) {
  std::vector<ParallelSizes> all;
  for (int tp : {1, 2, 4}) {
    for (int pp : {1, 2, 3, 4}) {
      for (int ep : {1, 2, 4}) {
        for (int dp : {1, 2}) {
          if (tp * pp > 8 || tp % ep != 0 || tp % dp != 0 || (ep > 1 && !with_experts)) continue;
          all.push_back({.tp = tp, .pp = pp, .ep = ep, .dp = dp});
        }
      }
    }
  }
  return all;
}

EngineOptions options_for(const std::string& path, const std::string& dtype, const ParallelSizes& sizes) {
  EngineOptions options;
  options.model_path = path;
  options.load_format = "dummy";
  options.dtype = dtype;
  options.parallel = sizes;
  options.enable_dp_attention = sizes.dp > 1;
  options.threads = sizes.world() == 1 ? 2 : sizes.world();
  options.context_length = 512;
  options.chunked_prefill_size = 64 * sizes.dp;
  // So few pages that sequences are retracted, in one group as in two.
  options.max_running_requests = 4 * sizes.dp;
  options.page_size = 4;
  options.max_total_tokens = 300;
  return options;
}

// What the requests of the workload said, in every bit.
struct Said {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> logprob_bits;
  bool operator==(const Said&) const = default;
};

struct Outcome {
  std::map<int, Said> said;  // by request; the cancelled ones are missing
  uint64_t retractions = 0;
};

Request workload_request(int index, int32_t vocab) {
  std::mt19937_64 random(index);
  Request request;
  const int32_t lengths[] = {70, 64, 1, 33, 90, 200, 129, 17};
  const int32_t length = lengths[index % 8];
  for (int32_t i = 0; i < length; ++i) request.prompt.push_back(static_cast<int32_t>(random() % vocab));
  request.sampling.max_new_tokens = 40 + 7 * (index % 3);
  request.sampling.temperature = index % 2 ? 0.9f : 0.f;
  request.sampling.repetition_penalty = index % 3 ? 1.f : 1.2f;
  request.sampling.ignore_eos = true;
  request.sampling.seed = 1000 + index;
  request.sampling.top_logprobs = 3;
  if (index == 5) request.sampling.prompt_logprobs_from = 0;
  return request;
}

Said take(const Answer& answer) {
  Said said;
  const auto add = [&](const std::vector<OutputToken>& tokens) {
    for (const OutputToken& token : tokens) {
      said.tokens.push_back(token.id);
      said.logprob_bits.push_back(std::bit_cast<uint32_t>(token.logprob));
      for (const auto& top : token.top) {
        said.tokens.push_back(top.token);
        said.logprob_bits.push_back(std::bit_cast<uint32_t>(top.logprob));
      }
    }
  };
  add(answer.prompt_logprobs);
  add(answer.outputs);
  return said;
}

// Prompts longer and shorter than a chunk, prefill beside decode, retraction, and two cancelled in the middle.
Outcome run(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> started = Engine::start(options);
  HYLAS_CHECK(started.ok(), "{}", started.error().message);
  Engine& engine = **started;
  Client client(engine);
  constexpr int kRequests = 10;
  std::vector<RequestId> ids;
  for (int i = 0; i < kRequests; ++i) ids.push_back(client.send(workload_request(i, engine.info().vocab_size)));
  for (int cancelled : {3, 6}) {
    client.wait_for_tokens(ids[cancelled], 5);
    engine.abort(ids[cancelled]);
  }
  Outcome outcome;
  for (int i = 0; i < kRequests; ++i) {
    const Answer answer = client.wait(ids[i]);
    if (i != 3 && i != 6) outcome.said[i] = take(answer);
  }
  engine.drain(10'000'000);
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.pages_used, 0);
  EXPECT_EQ(stats.slots_used, 0);
  outcome.retractions = stats.retractions_total;
  return outcome;
}

struct Case {
  LayoutModel model;
  const char* dtype;
  ParallelSizes sizes;
  std::string name() const { return fmt::format("{}_{}_{}", model.name(), dtype, name_of(sizes)); }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name(); }

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int layers : {8, 5}) {
    for (LayoutKind kind : {LayoutKind::kDense, LayoutKind::kMoe, LayoutKind::kMoeFp8}) {
      const char* dtype = kind == LayoutKind::kDense && layers == 8 ? "float32" : "bfloat16";
      for (const ParallelSizes& sizes : layouts(kind != LayoutKind::kDense)) {
        if (sizes.world() > 1) cases.push_back({{kind, layers}, dtype, sizes});
      }
    }
  }
  return cases;
}

class Layouts : public testing::TestWithParam<Case> {
 protected:
  static const Outcome& lone_rank(const Case& c) {
    static std::map<std::string, Outcome> known;
    const std::string key = c.model.name() + c.dtype;
    if (!known.contains(key)) known[key] = run(options_for(layout_model_path(c.model), c.dtype, {}));
    return known[key];
  }
};

TEST_P(Layouts, SayWhatOneRankSays) {
  const Case& c = GetParam();
  const Outcome& expected = lone_rank(c);
  ASSERT_GT(expected.retractions, 0u) << "the memory was never tight";
  const Outcome got = run(options_for(layout_model_path(c.model), c.dtype, c.sizes));
  for (const auto& [index, said] : expected.said) {
    EXPECT_EQ(got.said.at(index).tokens, said.tokens) << "request " << index;
    EXPECT_EQ(got.said.at(index).logprob_bits, said.logprob_bits) << "request " << index;
  }
}

INSTANTIATE_TEST_SUITE_P(Matrix, Layouts, testing::ValuesIn(all_cases()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace hylas
