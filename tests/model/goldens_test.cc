// The model against reference outputs of Hugging Face transformers (tests/data/goldens; all of $HYLAS_GOLDENS if set).
#include <gtest/gtest.h>

#include <algorithm>

#include "support/goldens.h"
#include "support/sequence_runner.h"

namespace hylas::test {
namespace {

constexpr double kLogitsTolerance = 1e-3;
constexpr double kStateTolerance = 1e-4;
constexpr int kLengths[] = {1, 5, 63, 64, 65, 130, 517};

class Goldens : public testing::TestWithParam<GoldenModel> {
 protected:
  GoldenFile golden_{GetParam(), "golden_fp32.safetensors"};

  std::vector<int32_t> ids(int n) const { return golden_.i32(fmt::format("p{}.input_ids", n)); }
  bool has_case(int n) const { return golden_.has(fmt::format("p{}.input_ids", n)); }
};

TEST_P(Goldens, LogitsAndGreedyTokensMatch) {
  SequenceRunner runner(GetParam().dir, {});
  const int64_t vocab = runner.config().vocab_size;
  for (int n : kLengths) {
    SCOPED_TRACE(fmt::format("prompt of {}", n));
    ASSERT_TRUE(has_case(n));
    runner.reset();
    const Rows logits = runner.prefill(ids(n));
    const std::vector<float> last = golden_.f32(fmt::format("p{}.last_logits", n));
    EXPECT_LT(max_abs_diff(logits.row(n - 1), last.data(), vocab), kLogitsTolerance);

    const std::vector<int32_t> top_positions = golden_.i32(fmt::format("p{}.top20_pos", n));
    const std::vector<int32_t> top_ids = golden_.i32(fmt::format("p{}.top20_ids", n));
    const std::vector<float> top_logits = golden_.f32(fmt::format("p{}.top20_logits", n));
    for (size_t i = 0; i < top_ids.size(); ++i) {
      EXPECT_NEAR(logits.row(top_positions[i / 20])[top_ids[i]], top_logits[i], kLogitsTolerance);
    }
    EXPECT_EQ(runner.greedy(logits.row(n - 1), 32), golden_.i32(fmt::format("p{}.greedy_ids", n)));
  }
}

TEST_P(Goldens, StatesAndKvOf65TokensMatch) {
  SequenceRunner runner(GetParam().dir, {});
  runner.prefill(ids(65));
  for (int32_t i = 0; i < runner.config().num_layers; ++i) {
    SCOPED_TRACE(fmt::format("layer {}", i));
    const std::string prefix = fmt::format("p65.state.layer{}.", i);
    const auto expect_near = [&](const std::vector<float>& mine, const std::vector<float>& theirs) {
      ASSERT_EQ(mine.size(), theirs.size());
      EXPECT_LT(max_abs_diff(mine.data(), theirs.data(), static_cast<int64_t>(mine.size())), kStateTolerance);
    };
    if (runner.config().layer_types[i] == LayerKind::kFull) {
      expect_near(runner.kv(i, 0), golden_.f32(prefix + "k"));
      expect_near(runner.kv(i, 1), golden_.f32(prefix + "v"));
    } else {
      expect_near(runner.state("delta", i), golden_.f32(prefix + "recurrent"));
      // The reference keeps four columns, of which the last three matter.
      const std::vector<float> four = golden_.f32(prefix + "conv");
      std::vector<float> three;
      for (size_t c = 0; c < four.size(); ++c) {
        if (c % 4 != 0) three.push_back(four[c]);
      }
      expect_near(runner.state("conv", i), three);
    }
  }
}

TEST_P(Goldens, ChunksAtMultiplesOf64AreBitIdentical) {
  SequenceRunner runner(GetParam().dir, {});
  for (int n : {65, 130, 517}) {
    runner.reset();
    const Rows whole = runner.prefill(ids(n));
    for (int chunk : {64, 128, 192}) {
      runner.reset();
      EXPECT_EQ(runner.prefill_chunks(ids(n), chunk).values, whole.values) << n << " tokens in chunks of " << chunk;
    }
  }
}

TEST_P(Goldens, OddCutsAgree) {
  SequenceRunner runner(GetParam().dir, {});
  const std::vector<int32_t> prompt = ids(130);
  const Rows whole = runner.prefill(prompt);
  for (int chunk : {1, 7, 100}) {
    runner.reset();
    const Rows cut = runner.prefill_chunks(prompt, chunk);
    EXPECT_LT(max_abs_diff(cut.values.data(), whole.values.data(), static_cast<int64_t>(whole.values.size())),
              kStateTolerance)
        << "chunks of " << chunk;
  }
}

TEST_P(Goldens, DecodePathAgreesWithPrefill) {
  SequenceRunner runner(GetParam().dir, {});
  const std::vector<int32_t> prompt = ids(65);
  const Rows whole = runner.prefill(prompt);
  runner.reset();
  runner.prefill({prompt[0]});
  for (size_t i = 1; i < prompt.size(); ++i) {
    const Rows step = runner.decode(prompt[i]);
    EXPECT_LT(max_abs_diff(step.values.data(), whole.row(static_cast<int64_t>(i)), whole.columns), kLogitsTolerance);
  }
}

TEST_P(Goldens, PageSizeDoesNotMatter) {
  SequenceRunner runner(GetParam().dir, {});
  const Rows whole = runner.prefill(ids(130));
  for (int32_t page_size : {1, 16, 128}) {
    SequenceRunner other(GetParam().dir, {.page_size = page_size});
    EXPECT_EQ(other.prefill(ids(130)).values, whole.values) << "page size " << page_size;
  }
}

// Drafts: the first from the pass over the prompt (tokens shifted left by one, the sampled one last), then chained.
TEST_P(Goldens, MtpHeadMatches) {
  if (!golden_.has("p5.mtp.hidden")) return;  // a model without an MTP head
  SequenceRunner runner(GetParam().dir, {.with_mtp = true});
  for (int n : {5, 65, 130}) {
    SCOPED_TRACE(fmt::format("prompt of {}", n));
    const std::string prefix = fmt::format("p{}.mtp.", n);
    runner.reset();
    const std::vector<int32_t> prompt = ids(n);
    const Rows logits = runner.prefill(prompt);
    const Rows target = runner.normed();
    const auto expect_near = [&](const Rows& mine, const std::vector<float>& theirs, double tolerance) {
      ASSERT_EQ(mine.values.size(), theirs.size());
      EXPECT_LT(max_abs_diff(mine.values.data(), theirs.data(), static_cast<int64_t>(theirs.size())), tolerance);
    };
    expect_near(target, golden_.f32(prefix + "target_hidden"), kLogitsTolerance);

    std::vector<int32_t> next(prompt.begin() + 1, prompt.end());
    next.push_back(argmax(logits.row(n - 1), logits.columns));
    const Rows hidden = runner.mtp(target, next, 0);
    expect_near(hidden, golden_.f32(prefix + "hidden"), kLogitsTolerance);

    Rows last{hidden.columns, {hidden.row(n - 1), hidden.row(n - 1) + hidden.columns}};
    std::vector<int32_t> drafts;
    for (int32_t draft = 0; draft < 4; ++draft) {
      const Rows draft_logits = runner.logits_of(last);
      if (draft == 0) expect_near(draft_logits, golden_.f32(prefix + "last_logits"), kLogitsTolerance);
      drafts.push_back(argmax(draft_logits.row(0), draft_logits.columns));
      last = runner.mtp(last, {drafts.back()}, n + draft);
    }
    EXPECT_EQ(drafts, golden_.i32(prefix + "draft_ids"));
  }
}

INSTANTIATE_TEST_SUITE_P(Model, Goldens, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param.test_name(); });

}  // namespace
}  // namespace hylas::test
