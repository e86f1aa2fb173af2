#include "engine/prefill_policy.h"

#include <algorithm>
#include <cmath>

namespace hylas {
namespace {

constexpr int32_t kShrinkMax = 8;  // a chunk is at least the budget divided by this
constexpr int32_t kTailShare = 4;  // a tail is less than a chunk divided by this

int32_t round_down(double tokens) { return static_cast<int32_t>(tokens / kChunkUnit) * kChunkUnit; }
int32_t round_up(int32_t tokens) { return (tokens + kChunkUnit - 1) / kChunkUnit * kChunkUnit; }

// A step's budget in tokens and in time: whichever ends first.
class StepBudget {
 public:
  StepBudget(int32_t tokens, const StepCost& cost)
      : cost_(cost), tokens_whole_(tokens), us_whole_(row_us(0, tokens)), tokens_left_(tokens), us_left_(us_whole_) {}

  // Tokens after `prefix` that a whole step takes.
  double whole(int32_t prefix) const {
    const double least = static_cast<double>(tokens_whole_) / kShrinkMax;
    return std::max({least, double{kChunkUnit}, tokens_in_time(cost_, prefix, us_whole_, tokens_whole_)});
  }
  // Those that what is left of this step takes.
  double rest(int32_t prefix) const {
    if (tokens_left_ == tokens_whole_) return whole(prefix);
    return tokens_in_time(cost_, prefix, us_left_, tokens_left_);
  }
  void take(int32_t prefix, int32_t tokens) {
    tokens_left_ -= tokens;
    us_left_ = std::max(0.0, us_left_ - row_us(prefix, tokens));
  }

 private:
  double row_us(double prefix, double tokens) const { return cost_.of(StepLoad::of(prefix, tokens)) - cost_.step_us; }
  const StepCost& cost_;
  const int32_t tokens_whole_;
  const double us_whole_;
  int32_t tokens_left_;
  double us_left_;
};

}  // namespace

std::vector<int32_t> cut_chunks(std::span<const PrefillNeed> needs, int32_t budget_tokens) {
  std::vector<int32_t> chunks(needs.size(), 0);
  int32_t left = budget_tokens;
  for (size_t i = 0; i < needs.size(); ++i) {
    const int32_t missing = needs[i].end - needs[i].begin;
    if (missing > left) {
      chunks[i] = left / kChunkUnit * kChunkUnit;
      break;
    }
    chunks[i] = missing;
    left -= missing;
  }
  return chunks;
}

// b n + c n (p + n / 2) = us, solved for n in the form that does not cancel.
double tokens_in_time(const StepCost& cost, double prefix, double us, double tokens_max) {
  const double linear = cost.token_us + cost.pair_us * prefix;
  const double root = std::sqrt(linear * linear + 2 * cost.pair_us * us);
  return linear + root > 0 ? std::min(tokens_max, 2 * us / (linear + root)) : tokens_max;
}

std::vector<int32_t> cut_chunks_by_time(std::span<const PrefillNeed> needs, int32_t budget_tokens, const StepCost& cost,
                                        bool others_wait) {
  std::vector<int32_t> chunks(needs.size(), 0);
  StepBudget budget(budget_tokens, cost);
  for (size_t i = 0; i < needs.size(); ++i) {
    const int32_t begin = needs[i].begin, missing = needs[i].end - begin;
    // Half a token for what rounding did to the budget: a chunk that fits exactly shall fit.
    const double room = std::min(budget.rest(begin) + 0.5, static_cast<double>(budget_tokens));
    chunks[i] = missing <= room ? missing : round_down(room);
    budget.take(begin, chunks[i]);
    if (chunks[i] == missing) continue;
    const int32_t left = missing - chunks[i];
    const bool alone = !others_wait && i + 1 == needs.size();
    if (alone && left < budget.whole(begin + chunks[i]) / kTailShare) {
      chunks[i] = std::min(chunks[i], round_up((missing + 1) / 2));
    }
    break;
  }
  return chunks;
}

}  // namespace hylas
