// Sampling on the GPU: the CPU's tokens, for every filter and penalty, and its log probabilities.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cuda/parity.h"

namespace hylas::test {
namespace {

struct Draws {
  std::vector<SampleResult> cpu, cuda;
};

Draws sample(const HostTensor& logits, int32_t vocab, const std::vector<SampleRow>& rows) {
  const OnDevice on_device(logits);
  Draws draws{std::vector<SampleResult>(rows.size()), std::vector<SampleResult>(rows.size())};
  cpu_ops().sample(logits, vocab, rows, draws.cpu);
  cuda_ops().sample(on_device, vocab, rows, draws.cuda);
  return draws;
}

void expect_same(const Draws& draws) {
  for (size_t i = 0; i < draws.cpu.size(); ++i) {
    EXPECT_EQ(draws.cuda[i].token, draws.cpu[i].token) << "row " << i;
    if (std::isfinite(draws.cpu[i].logprob)) {
      EXPECT_NEAR(draws.cuda[i].logprob, draws.cpu[i].logprob, 1e-5) << "row " << i;
    } else {
      EXPECT_EQ(draws.cuda[i].logprob, draws.cpu[i].logprob);
    }
    ASSERT_EQ(draws.cuda[i].top.size(), draws.cpu[i].top.size());
    for (size_t j = 0; j < draws.cpu[i].top.size(); ++j) {
      EXPECT_EQ(draws.cuda[i].top[j].token, draws.cpu[i].top[j].token);
      EXPECT_NEAR(draws.cuda[i].top[j].logprob, draws.cpu[i].top[j].logprob, 1e-5);
    }
  }
}

TEST(CudaSampling, EveryFilterDrawsTheCpusTokens) {
  std::mt19937 random(77);
  for (const auto& [vocab, rows] : {std::pair<int32_t, int>{1000, 300}, {248077, 100}}) {
    HostTensor logits = random_tensor(random, DType::kF32, {rows, vocab + 3}, 3.f);
    std::vector<SampleRow> all;
    for (int i = 0; i < rows; ++i) {
      SampleRow row;
      row.seed = random();
      row.step = i;
      row.temperature = i % 7 == 0 ? 0.f : 0.2f + 0.3f * static_cast<float>(i % 5);
      row.top_k = i % 3 == 0 ? -1 : i % 3 == 1 ? 20 : 1 + static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
      row.top_p = i % 2 ? 1.f : 0.3f + 0.69f * static_cast<float>(i % 11) / 10;
      row.min_p = i % 5 == 4 ? 0.02f : 0.f;
      all.push_back(row);
    }
    expect_same(sample(logits, vocab, all));
  }
}

// Rows of few different logits, at places of every alignment, ends behind and before a whole step.
TEST(CudaSampling, OfEqualLogitsTheFirst) {
  std::mt19937 random(80);
  for (const int32_t vocab : {1, 4095, 4096, 4097, 12291}) {
    for (const int32_t behind : {0, 1, 4}) {
      HostTensor logits = random_tensor(random, DType::kF32, {150, vocab + behind}, 1.f);
      for (int64_t r = 0; r < 150; ++r) {
        float* row = logits.view.row<float>(r);
        for (int64_t i = 0; i < vocab; ++i) row[i] = static_cast<float>(random() % 1000 / 998);
      }
      std::vector<SampleRow> rows(150);
      for (SampleRow& row : rows) row.temperature = 0.f;
      expect_same(sample(logits, vocab, rows));
    }
  }
}

// Every seventh row changes nothing, and more rows change than have copies at once.
TEST(CudaSampling, PenaltiesBiasBlockedAndMasks) {
  std::mt19937 random(78);
  constexpr int32_t kVocab = 5000;
  constexpr int kRows = 160;
  HostTensor logits = random_tensor(random, DType::kF32, {kRows, kVocab}, 2.f);
  std::vector<TokenHistory> histories(kRows);
  std::vector<std::vector<LogitBias>> biases(kRows);
  std::vector<std::vector<int32_t>> blocked(kRows);
  std::vector<std::vector<uint32_t>> masks(kRows);
  std::vector<SampleRow> all(kRows);
  for (size_t i = 0; i < all.size(); ++i) {
    for (int j = 0; j < 300; ++j) {
      histories[i].generated[static_cast<int32_t>(random() % 6000)] += 1;
      histories[i].prompt[static_cast<int32_t>(random() % 5000)] += 1;
    }
    for (int j = 0; j < 20; ++j)
      biases[i].push_back({static_cast<int32_t>(random() % 5200), static_cast<float>(j) - 5.f});
    for (int j = 0; j < 200; ++j) blocked[i].push_back(static_cast<int32_t>(random() % 5001));
    for (int j = 0; j < (kVocab + 31) / 32; ++j) masks[i].push_back(static_cast<uint32_t>(random() & random()));
    all[i].seed = random();
    all[i].history = &histories[i];
    all[i].top_logprobs = static_cast<int32_t>(i % 6) - 1;
    if (i % 7 == 3) continue;
    if (i % 2 == 0) all[i].repetition_penalty = 1.3f;
    if (i % 3 == 0) all[i].frequency_penalty = 0.4f;
    if (i % 5 == 0) all[i].presence_penalty = 0.7f;
    if (i % 4 == 1) all[i].bias = biases[i];
    if (i % 4 == 2) all[i].blocked = blocked[i];
    if (i % 4 == 3) all[i].allowed = masks[i];
    if (i % 6 == 0) all[i].temperature = 0.f;
  }
  expect_same(sample(logits, kVocab, all));
}

TEST(CudaSampling, TiesNanAndNothingLeft) {
  constexpr int32_t kVocab = 300;
  HostTensor logits = poisoned(DType::kF32, {4, kVocab});
  for (int32_t i = 0; i < kVocab; ++i) {
    set(logits, 1, i, static_cast<float>(i % 3));
    set(logits, 2, i, -std::numeric_limits<float>::infinity());
    set(logits, 3, i, i == 200 ? std::numeric_limits<float>::infinity() : 1.f);
  }
  for (int32_t i = 40; i < 50; ++i) set(logits, 0, i, i % 2 ? 0.f : -0.f);  // the others are NaN
  for (float temperature : {0.f, 1.f}) {
    std::vector<SampleRow> all(4);
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].temperature = temperature;
      all[i].seed = i;
      all[i].top_p = 0.9f;
    }
    const Draws draws = sample(logits, kVocab, all);
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(draws.cuda[i].token, draws.cpu[i].token) << i;
  }
}

// What the next step reads on the device is what this one would have told the host.
TEST(CudaSampling, AheadDrawsTheSameAndFeedsTheNextStep) {
  std::mt19937 random(81);
  constexpr int32_t kVocab = 1000, kRows = 150, kSlots = 200;
  HostTensor logits = random_tensor(random, DType::kF32, {kRows, kVocab}, 3.f);
  for (int32_t i = 0; i < kVocab; ++i) set(logits, 7, i, -std::numeric_limits<float>::infinity());
  std::vector<uint32_t> mask((kVocab + 31) / 32, 0x10u);
  std::vector<int32_t> slots(kSlots);
  std::iota(slots.begin(), slots.end(), 0);
  std::ranges::shuffle(slots, random);
  slots.resize(kRows);
  std::vector<SampleRow> all;
  for (int i = 0; i < kRows; ++i) {
    SampleRow row{.temperature = i % 4 == 0 ? 0.f : 0.8f, .top_p = i % 3 ? 1.f : 0.8f, .seed = random(), .step = i};
    if (i % 10 == 3) row.allowed = mask;
    all.push_back(row);
  }
  HostTensor last = poisoned(DType::kI32, {kSlots}), drawn = poisoned(DType::kI32, {kRows});
  HostTensor ids = poisoned(DType::kI32, {kRows + 1});
  for (int32_t i = 0; i < kRows; ++i) ids.view.as<int32_t>()[i] = -1 - slots[static_cast<size_t>(i)];
  ids.view.as<int32_t>()[kRows] = 5;  // a token that the host knows
  const OnDevice logits_there(logits), last_there(last), drawn_there(drawn), ids_there(ids);
  cpu_ops().sample_ahead(logits, kVocab, all, slots, last, drawn);
  cpu_ops().feed(ids, last);
  cuda_ops().sample_ahead(logits_there, kVocab, all, slots, last_there, drawn_there);
  cuda_ops().feed(ids_there, last_there);

  const Draws told = sample(logits, kVocab, all);
  for (int32_t i = 0; i < kRows; ++i) {
    const int32_t token = told.cpu[static_cast<size_t>(i)].token;
    EXPECT_EQ(drawn.view.as<int32_t>()[i], token) << "row " << i;
    EXPECT_EQ(ids.view.as<int32_t>()[i], std::max(token, 0)) << "row " << i;
  }
  EXPECT_EQ(drawn.view.as<int32_t>()[7], -1);
  EXPECT_EQ(ids.view.as<int32_t>()[kRows], 5);
  EXPECT_EQ(last_there.host().bytes, last.bytes) << "and nothing else was touched";
  EXPECT_EQ(drawn_there.host().bytes, drawn.bytes);
  EXPECT_EQ(ids_there.host().bytes, ids.bytes);
}

TEST(CudaSampling, LogprobsOfTargets) {
  std::mt19937 random(79);
  HostTensor logits = random_tensor(random, DType::kF32, {70, 3000}, 4.f);
  const OnDevice on_device(logits);
  std::vector<int32_t> targets;
  for (int i = 0; i < 70; ++i) targets.push_back(static_cast<int32_t>(random() % 3000));
  Draws draws{std::vector<SampleResult>(70), std::vector<SampleResult>(70)};
  cpu_ops().logprobs(logits, targets, 12, draws.cpu);
  cuda_ops().logprobs(on_device, targets, 12, draws.cuda);
  expect_same(draws);
}

}  // namespace
}  // namespace hylas::test
