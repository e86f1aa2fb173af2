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
      found[size++] = {x[begin + indices[i]], static_cast<int32_t>(begin + indices[i])};
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
  for (int64_t i = 0; i < size; ++i) found[i] = {x[indices[i]], indices[i]};
  std::sort(found, found + size, before);
  return {found, static_cast<size_t>(size)};
}

}  // namespace hylas::cpu
