// Sampling and log-probabilities.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "support/reference_ops.h"

namespace hylas::test {
namespace {

class Sampling : public PerIsa {
 protected:
  Sampling() : machine(GetParam()) {}
  SampleResult sample_one(const Tensor& logits, const SampleRow& row, int32_t vocab_tokens = 1 << 30) {
    std::vector<SampleResult> results(1);
    cpu::sample(machine.pool, machine.scratch, logits, vocab_tokens, {&row, 1}, results);
    return results[0];
  }
  Machine machine;
};
HYLAS_PER_ISA(Sampling);

HostTensor logits_of(const std::vector<float>& row) {
  HostTensor logits = poisoned(DType::kF32, {1, static_cast<int64_t>(row.size())});
  std::copy(row.begin(), row.end(), logits.view.as<float>());
  return logits;
}

// What may come after temperature, top-k, top-p and min-p, and how likely it is.
std::map<int32_t, double> distribution(const Tensor& logits, const SampleRow& row) {
  std::vector<double> x = values(logits, 0, 1);
  std::vector<int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  auto at = [&](int32_t token) { return x[static_cast<size_t>(token)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return at(a) > at(b); });
  if (row.top_k > 0 && row.top_k < static_cast<int32_t>(order.size())) order.resize(static_cast<size_t>(row.top_k));
  std::vector<double> p;
  for (int32_t token : order) p.push_back(std::exp((at(token) - at(order[0])) / row.temperature));
  double total = std::accumulate(p.begin(), p.end(), 0.0), sum = 0;
  std::map<int32_t, double> kept;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && (sum >= row.top_p * total || p[i] < row.min_p * p[0])) break;
    sum += p[i];
    kept[order[i]] = p[i];
  }
  for (auto& [token, probability] : kept) probability /= sum;
  return kept;
}

TEST_P(Sampling, GreedyTakesTheHighestAndTheLowestIdOnTies) {
  SampleRow greedy{.temperature = 0.f};
  for (int64_t vocab : {1, 5, 1000, 248320}) {
    HostTensor logits = random_tensor(random, DType::kF32, {1, vocab}, 3.f);
    float* x = logits.view.as<float>();
    int64_t best = vocab / 3;
    x[best] = x[vocab - 1] = 50.f;
    EXPECT_EQ(sample_one(logits, greedy).token, best);
    EXPECT_EQ(sample_one(logits, {.temperature = 1.f, .top_k = 1}).token, best);
    int32_t cold = sample_one(logits, {.temperature = 1e-6f}).token;  // one of the two, never a lower one
    EXPECT_TRUE(cold == best || cold == vocab - 1);
  }
}

TEST_P(Sampling, IdsBeyondTheVocabularyNeverCome) {
  HostTensor logits = logits_of({1, 2, 3, 90, 91});
  EXPECT_EQ(sample_one(logits, {.temperature = 0.f}, 3).token, 2);
  for (int64_t step = 0; step < 50; ++step) EXPECT_LT(sample_one(logits, {.step = step}, 3).token, 3);
}

TEST_P(Sampling, NothingAllowedGivesMinusOne) {
  HostTensor logits = logits_of({1, 2, 3});
  std::vector<uint32_t> none = {0};
  EXPECT_EQ(sample_one(logits, {.allowed = none}).token, -1);
  EXPECT_EQ(sample_one(logits, {.temperature = 0.f, .allowed = none}).token, -1);
  EXPECT_EQ(sample_one(logits_of({NAN, NAN}), {}).token, -1);
}

TEST_P(Sampling, NanIsNeverDrawn) {
  HostTensor logits = random_tensor(random, DType::kF32, {1, 300}, 1.f);
  for (int64_t i = 0; i < 300; ++i) {
    if (i % 7 != 0) set(logits, 0, i, NAN);
  }
  for (int64_t step = 0; step < 100; ++step) {
    EXPECT_EQ(sample_one(logits, {.step = step}).token % 7, 0);
    EXPECT_EQ(sample_one(logits, {.top_k = 60, .top_p = 0.9f, .step = step}).token % 7, 0);
  }
  EXPECT_EQ(sample_one(logits, {.temperature = 0.f}).token % 7, 0);
}

TEST_P(Sampling, TheMaskAndBlockedIdsHold) {
  HostTensor logits = random_tensor(random, DType::kF32, {1, 100}, 1.f);
  std::vector<uint32_t> allowed = {0, 0x10u, 0xf0000000u, 0xffffffffu};  // 36, 92..95, 96..
  std::vector<int32_t> blocked = {36, 97, 5000, -1};
  for (int64_t step = 0; step < 100; ++step) {
    int32_t token = sample_one(logits, {.step = step, .blocked = blocked, .allowed = allowed}).token;
    EXPECT_GE(token, 92);
    EXPECT_NE(token, 97);
  }
}

TEST_P(Sampling, PenaltiesThenBias) {
  TokenHistory history;
  history.prompt = {{0, 3}, {1, 1}};
  history.generated = {{1, 2}, {2, 5}};
  SampleRow row{.temperature = 0.f, .repetition_penalty = 2.f, .frequency_penalty = 0.5f, .presence_penalty = 0.25f};
  row.history = &history;
  // 0: 8 / 2 = 4. 1: -4 * 2 - 2 * 0.5 - 0.25 = -9.25, once for prompt and generated. 2: 12 / 2 - 2.5 - 0.25 = 3.25.
  HostTensor logits = logits_of({8.f, -4.f, 12.f, 3.5f});
  EXPECT_EQ(sample_one(logits, row).token, 0);
  std::vector<LogitBias> bias = {{3, 0.6f}, {77, 100.f}};
  row.bias = bias;
  EXPECT_EQ(sample_one(logits, row).token, 3);
  bias[0] = {2, 0.8f};
  EXPECT_EQ(sample_one(logits, row).token, 2);
  bias[0] = {1, 13.26f};
  EXPECT_EQ(sample_one(logits, row).token, 1);
  bias[0] = {1, 13.24f};
  EXPECT_EQ(sample_one(logits, row).token, 0);
}

// 20,000 draws: nothing outside the kept set, and frequencies within five standard deviations.
TEST_P(Sampling, DrawsFollowTheFilteredDistribution) {
  HostTensor logits = random_tensor(random, DType::kF32, {1, 60}, 2.f);
  set(logits, 0, 3, 4.f);
  set(logits, 0, 9, 4.f);
  for (const SampleRow& base :
       {SampleRow{}, SampleRow{.temperature = 0.7f}, SampleRow{.temperature = 30.f}, SampleRow{.top_k = 5},
        SampleRow{.top_p = 0.6f}, SampleRow{.min_p = 0.2f}, SampleRow{.top_p = 1e-6f},
        SampleRow{.temperature = 1.5f, .top_k = 20, .top_p = 0.8f, .min_p = 0.1f},
        SampleRow{.top_k = 7, .min_p = 0.5f}}) {
    std::map<int32_t, double> wanted = distribution(logits, base);
    std::map<int32_t, int> drawn;
    constexpr int kDraws = 20000;
    std::vector<SampleRow> rows(100, base);
    HostTensor many = poisoned(DType::kF32, {100, 60});
    for (int64_t r = 0; r < 100; ++r) std::copy_n(logits.view.as<float>(), 60, many.view.row<float>(r));
    std::vector<SampleResult> results(100);
    for (int64_t i = 0; i < kDraws / 100; ++i) {
      for (int64_t r = 0; r < 100; ++r) {
        rows[static_cast<size_t>(r)].seed = 42;
        rows[static_cast<size_t>(r)].step = i * 100 + r;
      }
      cpu::sample(machine.pool, machine.scratch, many, 60, rows, results);
      for (const SampleResult& result : results) ++drawn[result.token];
    }
    for (auto [token, times] : drawn) EXPECT_TRUE(wanted.contains(token)) << token;
    for (auto [token, probability] : wanted) {
      double sigma = std::sqrt(kDraws * probability * (1 - probability));
      EXPECT_NEAR(drawn[token], kDraws * probability, 5 * sigma + 2) << token;
    }
  }
}

TEST_P(Sampling, LargeVocabulariesKeepExactlyTheRightSet) {
  HostTensor logits = random_tensor(random, DType::kF32, {1, 50000}, 1.f);
  for (int64_t i = 0; i < 50000; i += 3) set(logits, 0, i, 1.5f);  // many ties
  for (const SampleRow& base :
       {SampleRow{.top_k = 3000}, SampleRow{.top_k = 17000, .top_p = 0.9f}, SampleRow{.top_p = 0.3f},
        SampleRow{.min_p = 0.6f}, SampleRow{.temperature = 5.f, .top_p = 0.01f}}) {
    std::map<int32_t, double> wanted = distribution(logits, base);
    for (int64_t step = 0; step < 200; ++step) {
      SampleRow row = base;
      row.step = step;
      EXPECT_TRUE(wanted.contains(sample_one(logits, row).token)) << wanted.size();
    }
  }
}

TEST_P(Sampling, ADrawDependsOnSeedAndStepAlone) {
  HostTensor logits = random_tensor(random, DType::kF32, {33, 2000}, 0.5f);
  std::vector<SampleRow> rows(33);
  for (size_t r = 0; r < rows.size(); ++r) {
    rows[r] = {.top_p = r % 2 ? 0.9f : 1.f, .seed = r, .step = static_cast<int64_t>(r * r), .top_logprobs = 2};
  }
  std::vector<SampleResult> together(33);
  cpu::sample(machine.pool, machine.scratch, logits, 2000, rows, together);
  std::map<int32_t, int> distinct;
  for (size_t r = 0; r < rows.size(); ++r) {
    Machine other(GetParam(), 1 + static_cast<int>(r % 3));
    std::vector<SampleResult> alone(1);
    cpu::sample(other.pool, other.scratch, logits.view.rows(static_cast<int64_t>(r), 1), 2000, {&rows[r], 1}, alone);
    EXPECT_EQ(alone[0].token, together[r].token);
    EXPECT_EQ(alone[0].logprob, together[r].logprob);
    ++distinct[alone[0].token];
  }
  EXPECT_GT(distinct.size(), 20u);
}

TEST_P(Sampling, LogprobsAreOfTheRawLogits) {
  HostTensor logits = random_tensor(random, DType::kF32, {4, 3001}, 4.f, 7);
  set(logits, 1, 5, 70.f);
  set(logits, 1, 3000, 70.f);
  std::vector<int32_t> targets = {7, 3000, 0, 11};
  std::vector<SampleResult> results(4);
  cpu::logprobs(machine.pool, machine.scratch, logits, targets, 5, results);
  for (int64_t r = 0; r < 4; ++r) {
    std::vector<double> x = values(logits, r, 1), sorted = x;
    std::sort(sorted.rbegin(), sorted.rend());
    double sum = 0;
    for (double value : x) sum += std::exp(value - sorted[0]);
    const SampleResult& result = results[static_cast<size_t>(r)];
    EXPECT_NEAR(result.logprob, x[static_cast<size_t>(targets[static_cast<size_t>(r)])] - sorted[0] - std::log(sum),
                1e-5);
    ASSERT_EQ(result.top.size(), 5u);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(x[static_cast<size_t>(result.top[i].token)], sorted[i]);
      EXPECT_NEAR(result.top[i].logprob, sorted[i] - sorted[0] - std::log(sum), 1e-5);
    }
  }
  EXPECT_EQ(results[1].top[0].token, 5);
  EXPECT_EQ(results[1].top[1].token, 3000);
  SampleRow biased{.temperature = 0.f, .top_logprobs = 0};
  std::vector<LogitBias> bias = {{4, 1000.f}};
  biased.bias = bias;
  SampleResult chosen = sample_one(logits, biased);
  EXPECT_EQ(chosen.token, 4);
  EXPECT_LT(chosen.logprob, 0.f);
  EXPECT_TRUE(chosen.top.empty());
}

TEST_P(Sampling, NoRowsIsFine) {
  HostTensor logits = poisoned(DType::kF32, {0, 10});
  cpu::sample(machine.pool, machine.scratch, logits, 10, {}, {});
  cpu::logprobs(machine.pool, machine.scratch, logits, {}, 3, {});
}

}  // namespace
}  // namespace hylas::test
