#pragma once
// Passes over one row of logits. Included by other_kernels_<isa>.cc.
#include "ops/cpu/storage.h"

namespace hylas::cpu {

// The largest value; NaN is passed over, -inf when there is nothing else.
template <class V>
float highest_kernel(const float* x, int64_t count) {
  using F = typename V::F;
  F lowest = V::set(-__builtin_inff());
  F best[2] = {lowest, lowest};
  int64_t i = 0;
  for (; i + 2 * V::kLanes <= count; i += 2 * V::kLanes) {  // max gives its second operand when the first is NaN
    best[0] = V::max(V::load(x + i), best[0]);
    best[1] = V::max(V::load(x + i + V::kLanes), best[1]);
  }
  float result = V::highest(V::max(best[0], best[1]));
  for (; i < count; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// e^((x - highest) factor), at least e^-87, which is as good as nothing; that for NaN too.
template <class V>
HYLAS_INLINE typename V::F softmax_weight(typename V::F x, float highest, float factor) {
  return exp<V>(V::max(V::mul(V::sub(x, V::set(highest)), V::set(factor)), V::set(-87.f)));
}

// The weights are summed in float over 1024 of them at a time, then in double.
template <class V>
double sum_exp_kernel(const float* x, int64_t count, float highest, float factor) {
  using F = typename V::F;
  constexpr int64_t kAtOnce = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    F sum = V::zero();
    int64_t here = count - begin < kAtOnce ? count - begin : kAtOnce;
    int64_t i = 0;
    for (; i + V::kLanes <= here; i += V::kLanes) {
      sum = V::add(sum, softmax_weight<V>(V::load(x + begin + i), highest, factor));
    }
    total += static_cast<double>(V::sum(sum));
    if (i == here) continue;
    float rest[V::kLanes];
    for (int64_t j = 0; j < V::kLanes; ++j) rest[j] = i + j < here ? x[begin + i + j] : -__builtin_inff();
    total += static_cast<double>(V::sum(softmax_weight<V>(V::load(rest), highest, factor)));
  }
  return total;
}

template <class V>
void softmax_weights_kernel(const float* x, int64_t count, float highest, float factor, float* out) {
  for_vectors<V>(count, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    store<V>(out + i, softmax_weight<V>(load<V>(x + i, n), highest, factor), n);
  });
}

// Blocks without a hit are passed over by their highest value.
template <class V>
int64_t collect_kernel(const float* x, int64_t count, float threshold, int32_t* out, int64_t room) {
  constexpr int64_t kAtOnce = 8 * V::kLanes;
  int64_t found = 0;
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    int64_t here = count - begin < kAtOnce ? count - begin : kAtOnce;
    if (here == kAtOnce && highest_kernel<V>(x + begin, here) < threshold) continue;
    for (int64_t i = begin; i < begin + here; ++i) {
      if (!(x[i] >= threshold)) continue;
      if (found < room) out[found] = static_cast<int32_t>(i);
      ++found;
    }
  }
  return found;
}

}  // namespace hylas::cpu
