// One token from one row of logits. Nothing here depends on the other rows, and each row is one thread's work.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "ops/cpu/candidates.h"
#include "ops/cpu/other_ops.h"

namespace hylas::cpu {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void apply_penalties(const SampleRow& row, float* x, int32_t count) {
  if (!has_penalties(row)) return;
  HYLAS_CHECK(row.history != nullptr, "penalties need a token history");
  auto repeat = [&](int32_t token) { x[token] *= x[token] > 0 ? 1 / row.repetition_penalty : row.repetition_penalty; };
  const TokenHistory& history = *row.history;
  if (row.repetition_penalty != 1.f) {
    for (const auto& [token, times] : history.prompt) {
      if (token >= 0 && token < count) repeat(token);
    }
    for (const auto& [token, times] : history.generated) {
      if (token >= 0 && token < count && !history.prompt.contains(token)) repeat(token);
    }
  }
  for (const auto& [token, times] : history.generated) {
    if (token < 0 || token >= count) continue;
    x[token] -= row.frequency_penalty * static_cast<float>(times) + row.presence_penalty;
  }
}

void apply_mask(std::span<const uint32_t> allowed, float* x, int32_t count) {
  for (int32_t begin = 0; begin < count; begin += 32) {
    size_t word = static_cast<size_t>(begin) / 32;
    uint32_t bits = word < allowed.size() ? allowed[word] : 0;
    for (uint32_t denied = ~bits; denied != 0; denied &= denied - 1) {
      int32_t token = begin + std::countr_zero(denied);
      if (token < count) x[token] = kNever;
    }
  }
}

// The logits that the row is drawn from: the model's, or a changed copy.
const float* changed_logits(const SampleRow& row, ThreadScratch& scratch, const float* logits, int32_t count) {
  if (!changes_logits(row)) return logits;
  float* x = scratch.floats.take(static_cast<size_t>(count));
  std::copy_n(logits, count, x);
  apply_penalties(row, x, count);
  for (const LogitBias& bias : row.bias) {
    if (bias.token >= 0 && bias.token < count) x[bias.token] += bias.bias;
  }
  for (int32_t token : row.blocked) {
    if (token >= 0 && token < count) x[token] = kNever;
  }
  if (!row.allowed.empty()) apply_mask(row.allowed, x, count);
  return x;
}

// Temperature, top-k, top-p, min-p and the draw over logits `x` whose highest is finite.
class Draw {
 public:
  Draw(const OtherKernels& kernels, ThreadScratch& scratch, const SampleRow& row, const float* x, int32_t count,
       float highest)
      : kernels_(kernels), scratch_(scratch), row_(row), x_(x), count_(count), highest_(highest) {}

  // Every filter keeps a beginning of the candidates in their order (before(), candidates.h), which is never sorted.
  int32_t token() {
    double share = uniform_draw(row_.seed, row_.step), total = 0;
    if (row_.top_k > 0 && row_.top_k < count_) {
      candidates_ = best_candidates(kernels_, scratch_, x_, count_, row_.top_k);
      weigh();
      total = weight_sum();
    } else {
      total = kernels_.sum_exp(x_, count_, highest_, 1 / row_.temperature);
      reach(row_.top_p < 1.f ? row_.top_p * total : row_.min_p > 0.f ? total : share * total);
    }
    if (row_.top_p < 1.f) keep(select_mass(candidates_, row_.top_p * total));
    if (row_.min_p > 0.f) {
      auto end = std::partition(candidates_.begin(), candidates_.end(),
                                [&](const Candidate& candidate) { return candidate.weight >= row_.min_p; });
      keep(std::max<size_t>(1, static_cast<size_t>(end - candidates_.begin())));
    }
    if (row_.top_p < 1.f || row_.min_p > 0.f) total = weight_sum();
    return candidates_[select_mass(candidates_, share * total) - 1].token;
  }

 private:
  void keep(size_t count) { candidates_ = candidates_.first(count); }

  // Through the vector kernel, a few at a time.
  void weigh() {
    constexpr size_t kAtOnce = 256;
    float weights[kAtOnce];
    for (size_t begin = 0; begin < candidates_.size(); begin += kAtOnce) {
      size_t here = std::min(kAtOnce, candidates_.size() - begin);
      for (size_t i = 0; i < here; ++i) weights[i] = candidates_[begin + i].logit;
      kernels_.softmax_weights(weights, static_cast<int64_t>(here), highest_, 1 / row_.temperature, weights);
      for (size_t i = 0; i < here; ++i) candidates_[begin + i].weight = weights[i];
    }
  }

  double weight_sum() const {
    double sum = 0;
    for (const Candidate& candidate : candidates_) sum += candidate.weight;
    return sum;
  }

  // Enough of the best candidates for a sum of weights above `mass`, or all that have a weight (or pass min-p).
  void reach(double mass) {
    constexpr float kLargestDepth = 87.f;  // where weights end
    float deepest = row_.min_p > 0.f ? std::min(kLargestDepth, -std::log(row_.min_p) + 1e-3f) : kLargestDepth;
    float depth = row_.top_p >= 1.f && row_.min_p > 0.f ? deepest : std::min(4.f, deepest);
    for (;; depth = std::min(2 * depth, deepest)) {
      candidates_ = candidates_from(kernels_, scratch_, x_, count_, highest_ - depth * row_.temperature);
      weigh();
      if (depth >= deepest || weight_sum() > mass) return;
    }
  }

  const OtherKernels& kernels_;
  ThreadScratch& scratch_;
  const SampleRow& row_;
  const float* x_;
  int32_t count_;
  float highest_;
  std::span<Candidate> candidates_;
};

int32_t sample_token(const OtherKernels& kernels, ThreadScratch& scratch, const SampleRow& row, const float* logits,
                     int32_t count) {
  const float* x = changed_logits(row, scratch, logits, count);
  float highest = kernels.highest(x, count);
  if (highest == kNever) return -1;
  if (row.temperature <= 0.f || !std::isfinite(1 / row.temperature) || !std::isfinite(highest)) {
    int32_t first = 0;
    kernels.collect(x, count, highest, &first, 1);
    return first;
  }
  return Draw(kernels, scratch, row, x, count, highest).token();
}

// log softmax over all `count` logits; the best are taken from the first `best_of`.
void fill_logprobs(const OtherKernels& kernels, ThreadScratch& scratch, const float* logits, int64_t count,
                   int64_t best_of, int32_t token, int32_t top, SampleResult& result) {
  float highest = kernels.highest(logits, count);
  auto logprob = [&, log_sum = std::log(kernels.sum_exp(logits, count, highest, 1.f))](float logit) {
    if (std::isnan(logit) || logit == kNever) return kNever;
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(highest) - log_sum);
  };
  result.logprob = token < 0 || token >= count ? kNever : logprob(logits[token]);
  result.top.clear();
  for (const Candidate& best : best_candidates(kernels, scratch, logits, best_of, top)) {
    result.top.push_back({best.token, logprob(best.logit)});
  }
}

}  // namespace

void sample(ThreadPool& pool, Scratch& scratch, const Tensor& logits, int32_t vocab_tokens,
            std::span<const SampleRow> rows, std::span<SampleResult> results) {
  HYLAS_CHECK(rows.size() == results.size() && static_cast<int64_t>(rows.size()) <= logits.dim(0),
              "{} rows to sample into {} results from {} logits", rows.size(), results.size(), logits.dim(0));
  int32_t count = std::min(vocab_tokens, static_cast<int32_t>(logits.dim(1)));
  pool.parallel_items(static_cast<int64_t>(rows.size()), [&](int64_t index, int thread) {
    ThreadScratch& mine = scratch.threads[static_cast<size_t>(thread)];
    const SampleRow& row = rows[static_cast<size_t>(index)];
    SampleResult& result = results[static_cast<size_t>(index)];
    const float* x = logits.row<float>(index);
    result = {};
    result.token = sample_token(*scratch.kernels, mine, row, x, count);
    if (row.top_logprobs >= 0) {
      fill_logprobs(*scratch.kernels, mine, x, logits.dim(1), count, result.token, row.top_logprobs, result);
    }
  });
}

void logprobs(ThreadPool& pool, Scratch& scratch, const Tensor& logits, std::span<const int32_t> targets, int32_t top,
              std::span<SampleResult> results) {
  HYLAS_CHECK(targets.size() == results.size() && static_cast<int64_t>(targets.size()) <= logits.dim(0),
              "{} targets into {} results from {} logits", targets.size(), results.size(), logits.dim(0));
  pool.parallel_items(static_cast<int64_t>(targets.size()), [&](int64_t index, int thread) {
    SampleResult& result = results[static_cast<size_t>(index)];
    int32_t target = targets[static_cast<size_t>(index)];
    result.token = target;
    fill_logprobs(*scratch.kernels, scratch.threads[static_cast<size_t>(thread)], logits.row<float>(index),
                  logits.dim(1), logits.dim(1), target, top, result);
  });
}

}  // namespace hylas::cpu
