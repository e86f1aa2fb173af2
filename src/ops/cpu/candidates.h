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

// The (at most) `best` first of `count` logits, in order, without weights. NaN and -inf never come. Valid until the
// scratch is used again.
std::span<Candidate> best_candidates(const OtherKernels& kernels, ThreadScratch& scratch, const float* x, int64_t count,
                                     int64_t best);

// All logits >= threshold, by id, without weights. NaN and -inf never come.
std::span<Candidate> candidates_from(const OtherKernels& kernels, ThreadScratch& scratch, const float* x, int64_t count,
                                     float threshold);

// Reorders `candidates` so that the fewest first ones (in the order above) whose weights reach `mass` stand in front,
// the last of them at the returned index - 1; returns at least 1, and all of them if they do not reach it. A
// quickselect by weight: linear time, no sort.
size_t select_mass(std::span<Candidate> candidates, double mass);

}  // namespace hylas::cpu
