#pragma once
// StepCostModel: what a step takes, learnt from the steps themselves. A row of n tokens after a prefix of p costs
//   b n + c n (p + n / 2):
// every token passes the weights (b), and attends to what is before it (c); a step adds a constant a.
#include <array>
#include <cstdint>
#include <span>

#include "engine/step_plan.h"

namespace hylas {

// What the model needs to know of a step.
struct StepLoad {
  double tokens = 0;
  double pairs = 0;  // of a token and one before it: sum of n (p + n / 2)

  // Of `length` tokens after `prefix`.
  static StepLoad of(double prefix, double length) { return {length, length * (prefix + length / 2)}; }
};
// The rows of the dp group that has most to do: the groups work side by side.
StepLoad load_of(std::span<const PlanRow> rows, int32_t groups);

// Microseconds. Never negative; all zero until there is something to go by.
struct StepCost {
  double step_us = 0;   // a
  double token_us = 0;  // b
  double pair_us = 0;   // c

  double of(const StepLoad& load) const { return step_us + token_us * load.tokens + pair_us * load.pairs; }
};

// Recursive least squares over (1, tokens, pairs). Old steps are forgotten slowly, so the fit follows a machine that
// becomes faster or slower; a step that takes much longer than usual (a page fault, a neighbour) moves it no more than
// an ordinary deviation does. Not thread-safe.
class StepCostModel {
 public:
  StepCostModel();

  void add(const StepLoad& load, double us);
  // False while too few steps were seen, or they are too much alike, to tell b and c apart: keep chunks whole.
  bool is_known() const;
  StepCost cost() const;

 private:
  static constexpr int kTerms = 3;
  using Vector = std::array<double, kTerms>;

  std::array<Vector, kTerms> covariance_;  // of `weights_`, up to the noise
  Vector weights_{};                       // of the scaled terms
  double deviation_us_ = 0;                // typical |measured - predicted|
  int64_t steps_ = 0;
};

}  // namespace hylas
