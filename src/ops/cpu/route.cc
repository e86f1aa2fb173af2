#include <algorithm>

#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"

namespace hylas::cpu {
namespace {

// The k largest probabilities of one token in descending order, the lowest id first among equals, divided by their sum.
void route_token(float* probability, int64_t experts, int64_t k, int32_t* ids, float* weights) {
  float sum = 0.f;
  for (int64_t i = 0; i < k; ++i) {
    int64_t best = std::max_element(probability, probability + experts) - probability;
    ids[i] = static_cast<int32_t>(best);
    weights[i] = probability[best];
    sum += weights[i];
    probability[best] = -1.f;
  }
  for (int64_t i = 0; i < k; ++i) weights[i] /= sum;
}

}  // namespace

void moe_route(ThreadPool& pool, Scratch& scratch, const Tensor& logits, const Tensor& ids, const Tensor& weights) {
  int64_t experts = logits.dim(1), k = ids.dim(1);
  HYLAS_CHECK(k <= experts && weights.dim(1) == k, "{} of {} experts", k, experts);
  pool.parallel_for(logits.dim(0), 8, [&](int64_t begin, int64_t end, int thread) {
    float* probability = scratch.threads[static_cast<size_t>(thread)].floats.take(static_cast<size_t>(experts));
    for (int64_t t = begin; t < end; ++t) {
      const float* x = logits.row<float>(t);
      // The sum of all cancels in the division by the sum of the chosen ones.
      scratch.kernels->softmax_weights(x, experts, scratch.kernels->highest(x, experts), 1.f, probability);
      route_token(probability, experts, k, ids.row<int32_t>(t), weights.row<float>(t));
    }
  });
}

}  // namespace hylas::cpu
