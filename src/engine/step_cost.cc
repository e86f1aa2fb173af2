#include "engine/step_cost.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hylas {
namespace {

// Terms of about one for steps of some thousand tokens: the fit is then well conditioned.
constexpr double kTokensScale = 1024, kPairsScale = 1024.0 * 1024.0;
constexpr double kForget = 0.99;  // weight of a step, against the one after it
// Of the weights at first, against a noise of one. While all steps have the same tokens, a and b cannot be told apart:
// then the time counts as the tokens', because a is believed to be small.
constexpr std::array<double, 3> kCovarianceAtStart = {1e2, 1e8, 1e8};
constexpr double kCovarianceKnown = 1e4;  // below it, steps have told the weight
constexpr double kDeviationsMax = 3;      // beyond them a step is an outlier
constexpr double kStepsRemembered = 32;   // by the deviation
constexpr int64_t kStepsLeast = 8;

}  // namespace

StepLoad load_of(std::span<const PlanRow> rows, int32_t groups) {
  std::vector<StepLoad> loads(groups);
  for (const PlanRow& row : rows) {
    const StepLoad load = StepLoad::of(row.begin, row.length);
    loads.at(row.group).tokens += load.tokens;
    loads[row.group].pairs += load.pairs;
  }
  return *std::max_element(loads.begin(), loads.end(), [](const StepLoad& a, const StepLoad& b) {
    return a.tokens != b.tokens ? a.tokens < b.tokens : a.pairs < b.pairs;
  });
}

StepCostModel::StepCostModel() {
  for (int i = 0; i < kTerms; ++i) {
    covariance_[i].fill(0);
    covariance_[i][i] = kCovarianceAtStart[i];
  }
}

void StepCostModel::add(const StepLoad& load, double us) {
  const Vector terms = {1, load.tokens / kTokensScale, load.pairs / kPairsScale};
  Vector gain{};  // covariance * terms
  double predicted = 0, spread = 0;
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) gain[i] += covariance_[i][j] * terms[j];
    spread += terms[i] * gain[i];
    predicted += weights_[i] * terms[i];
  }
  // A step of a kind that was not seen before may be far off and still be right.
  const double surprise = std::sqrt(1 + spread);
  double off = us - predicted;
  if (steps_ >= kStepsLeast) {
    const double limit = kDeviationsMax * surprise * std::max(deviation_us_, 1e-3 * std::abs(predicted));
    off = std::clamp(off, -limit, limit);
  }
  deviation_us_ +=
      (std::abs(off) / surprise - deviation_us_) / std::min(static_cast<double>(steps_ + 1), kStepsRemembered);
  ++steps_;
  // What steps do not tell apart must not be forgotten: the covariance would grow without end.
  double trace = 0;
  for (int i = 0; i < kTerms; ++i) trace += covariance_[i][i];
  const double forget = trace < kCovarianceKnown ? kForget : 1;
  for (int i = 0; i < kTerms; ++i) {
    weights_[i] += gain[i] / (forget + spread) * off;
    for (int j = 0; j < kTerms; ++j) {
      covariance_[i][j] = (covariance_[i][j] - gain[i] * gain[j] / (forget + spread)) / forget;
    }
  }
}

bool StepCostModel::is_known() const {
  return steps_ >= kStepsLeast && covariance_[1][1] < kCovarianceKnown && covariance_[2][2] < kCovarianceKnown &&
         weights_[1] > 0;
}

StepCost StepCostModel::cost() const {
  return {std::max(0.0, weights_[0]), std::max(0.0, weights_[1]) / kTokensScale,
          std::max(0.0, weights_[2]) / kPairsScale};
}

}  // namespace hylas
