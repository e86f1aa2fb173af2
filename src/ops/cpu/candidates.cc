#include "ops/cpu/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hylas::cpu {
namespace {
constexpr int64_t kLogitsAtOnce = 4096;
constexpr float kLowest = std::numeric_limits<float>::lowest();
}  // namespace

// Runs over the logits with the lowest one that could still be among the best, which rises whenever the buffer is full.
std::span<Candidate> best_candidates(const OtherKernels& kernels, ThreadScratch& scratch, const float* x, int64_t count,
                                     int64_t best) {
  best = std::min(best, count);
  if (best <= 0) return {};
  int64_t room = 2 * best + kLogitsAtOnce;
  Candidate* found = scratch.candidates.take(static_cast<size_t>(room));
  int32_t* indices = scratch.indices.take(kLogitsAtOnce);
  int64_t size = 0;
  float threshold = kLowest;
  for (int64_t begin = 0; begin < count; begin += kLogitsAtOnce) {
    int64_t here = std::min(kLogitsAtOnce, count - begin);
    int64_t hits = kernels.collect(x + begin, here, threshold, indices, kLogitsAtOnce);
    for (int64_t i = 0; i < hits; ++i) {
      found[size++] = {x[begin + indices[i]], 0.f, static_cast<int32_t>(begin + indices[i])};
    }
    bool last = begin + kLogitsAtOnce >= count;
    if (size <= best || (!last && size + kLogitsAtOnce <= room)) continue;
    std::nth_element(found, found + best - 1, found + size, before);
    size = best;
    // A later equal logit has a higher id and stands behind all of these.
    threshold = std::nextafter(found[best - 1].logit, std::numeric_limits<float>::infinity());
  }
  std::sort(found, found + size, before);
  return {found, static_cast<size_t>(size)};
}

std::span<Candidate> candidates_from(const OtherKernels& kernels, ThreadScratch& scratch, const float* x, int64_t count,
                                     float threshold) {
  int32_t* indices = scratch.indices.take(static_cast<size_t>(count));
  int64_t size = kernels.collect(x, count, std::max(threshold, kLowest), indices, count);
  Candidate* found = scratch.candidates.take(static_cast<size_t>(count));
  for (int64_t i = 0; i < size; ++i) found[i] = {x[indices[i]], 0.f, indices[i]};
  return {found, static_cast<size_t>(size)};
}

size_t select_mass(std::span<Candidate> candidates, double mass) {
  size_t begin = 0, end = candidates.size();  // the answer's last candidate is in [begin, end)
  double sum = 0;                             // of what stands in front of begin
  while (end - begin > 1) {
    Candidate a = candidates[begin], b = candidates[begin + (end - begin) / 2], c = candidates[end - 1];
    Candidate pivot = std::max(std::min(a, b, before), std::min(std::max(a, b, before), c, before), before);
    double left = 0;
    auto middle = std::partition(candidates.begin() + static_cast<int64_t>(begin),
                                 candidates.begin() + static_cast<int64_t>(end), [&](const Candidate& candidate) {
                                   bool first = before(candidate, pivot);
                                   if (first) left += candidate.weight;
                                   return first;
                                 });
    size_t split = static_cast<size_t>(middle - candidates.begin());
    if (split > begin && sum + left >= mass) {
      end = split;
      continue;
    }
    // The pivot is the first of what stands behind the split.
    std::iter_swap(middle, std::find_if(middle, candidates.begin() + static_cast<int64_t>(end),
                                        [&](const Candidate& candidate) { return candidate.token == pivot.token; }));
    sum += left + pivot.weight;
    if (sum >= mass) return split + 1;
    if (split + 1 == end) return end;
    begin = split + 1;
  }
  return end;
}

}  // namespace hylas::cpu
