#pragma once
// Choosing the best of many logits without sorting them all.
#include <span>

#include "ops/cpu/other_kernels.h"
#include "ops/cpu/scratch.h"

namespace hylas::cpu {

// Higher logit first, then lower id: a total order, so every selection below has one answer.
inline bool before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// The (at most) `best` first of `count` logits, in order. NaN and -inf never come. Valid until the scratch is used
// again.
std::span<Candidate> best_candidates(const OtherKernels& kernels, ThreadScratch& scratch, const float* x, int64_t count,
                                     int64_t best);

// All logits >= threshold (finite), in order.
std::span<Candidate> candidates_from(const OtherKernels& kernels, ThreadScratch& scratch, const float* x, int64_t count,
                                     float threshold);

}  // namespace hylas::cpu
