#pragma once
// Choosing the best of many logits without sorting them all, by one block of 1024 threads. Candidates are ordered by
// logit, then by lower id: a total order, so every choice has one answer. NaN and -inf are no candidates. Sums of
// weights are taken in fixed point, where the order of addition does not matter.
#include <cstdint>

#include "ops/cuda/element.cuh"

namespace hylas::cuda {

constexpr int kSelectThreads = 1024;
constexpr int kBins = 2048;

struct SelectShared {
  unsigned long long mass[kBins];
  uint32_t count[kBins];
  unsigned long long scan[32];
  unsigned long long above, total;
  uint32_t bin, hit;
  float values[32];
  int tokens[32];
};

// One row of logits and the weights its candidates have.
struct Row {
  const float* x;
  int count;
  float highest;
  float inverse_temperature;

  __device__ bool candidate(float value) const { return value > -INFINITY; }  // false for NaN
  __device__ float weight(float value) const { return expf(fmaxf((value - highest) * inverse_temperature, -87.f)); }
  __device__ unsigned long long mass(float value) const { return __float2ull_rn(weight(value) * 0x1p40f); }
  // Larger for candidates that come first.
  __device__ static uint64_t key(float value, int token) {
    const uint32_t bits = __float_as_uint(value + 0.f);  // -0 and 0 are equal
    const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(ordered) << 32 | (~static_cast<uint32_t>(token));
  }
  // Coarse: a thirty-second of a nat each, rising with the logit.
  __device__ uint32_t bucket(float value) const {
    const float depth = (highest - value) * inverse_temperature * 32.f;
    return depth >= kBins - 1 ? 0 : kBins - 1 - static_cast<uint32_t>(depth);
  }
};

// Highest logit of the row and the lowest token that has it (count if none).
__device__ inline void find_highest(const float* x, int count, SelectShared& s, float& highest, int& token) {
  float best = -INFINITY;
  int id = count;
  const auto see = [&](float value, int i) {
    if (value > best) {
      best = value;
      id = i;
    }
  };
  // Four at a time where the row allows it, several under way: a row is a single multiprocessor's.
  constexpr int kEach = 4, kAhead = 4, kStep = kEach * kSelectThreads;
  const int whole = reinterpret_cast<uintptr_t>(x) % sizeof(float4) == 0 ? count / kStep * kStep : 0;
  const float4* from = reinterpret_cast<const float4*>(x) + threadIdx.x;
#pragma unroll kAhead
  for (int i = 0; i < whole; i += kStep) {
    const float4 four = from[i / kEach];
    const int at = i + kEach * static_cast<int>(threadIdx.x);
    see(four.x, at), see(four.y, at + 1), see(four.z, at + 2), see(four.w, at + 3);
  }
  for (int i = whole + static_cast<int>(threadIdx.x); i < count; i += kSelectThreads) see(x[i], i);
  const auto take = [&](float other, int other_id) {
    if (other > best || (other == best && other_id < id)) {
      best = other;
      id = other_id;
    }
  };
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(~0u, best, offset);
    const int other_id = __shfl_xor_sync(~0u, id, offset);
    take(other, other_id);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    s.values[threadIdx.x / 32] = best;
    s.tokens[threadIdx.x / 32] = id;
  }
  __syncthreads();
  best = s.values[0];
  id = s.tokens[0];
  for (int i = 1; i < 32; ++i) take(s.values[i], s.tokens[i]);
  highest = best;
  token = id;
}

// From the top bin down, the first at which the sum reaches `target`: s.bin, and s.above in front of it. Bins hold
// counts or masses. False if the sum of all is less.
__device__ inline bool find_bin(SelectShared& s, bool by_mass, unsigned long long target) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first = kBins - 1 - 2 * threadIdx.x, second = first - 1;
  const unsigned long long a = by_mass ? s.mass[first] : s.count[first];
  const unsigned long long b = by_mass ? s.mass[second] : s.count[second];
  unsigned long long sum = a + b;
  for (int offset = 1; offset < 32; offset *= 2) {
    const unsigned long long other = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += other;
  }
  __syncthreads();
  if (lane == 31) s.scan[warp] = sum;
  if (threadIdx.x == 0) s.hit = 0;
  __syncthreads();
  for (int i = 0; i < warp; ++i) sum += s.scan[i];
  const unsigned long long before = sum - a - b;
  if (before < target && target <= sum) {
    const bool in_first = target <= before + a;
    s.bin = in_first ? first : second;
    s.above = in_first ? before : before + a;
    s.hit = 1;
  }
  __syncthreads();
  return s.hit != 0;
}

__device__ inline unsigned long long total_of(SelectShared& s, bool by_mass) {
  unsigned long long sum = 0;
  for (int i = threadIdx.x; i < kBins; i += kSelectThreads) sum += by_mass ? s.mass[i] : s.count[i];
  if (threadIdx.x == 0) s.total = 0;
  __syncthreads();
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  if (threadIdx.x % 32 == 0) atomicAdd(&s.total, sum);
  __syncthreads();
  return s.total;
}

// Histogram over `bin(value, key)` of the candidates with key >= bound for which it is not negative.
template <class Bin>
__device__ void fill_bins(const Row& row, uint64_t bound, SelectShared& s, Bin bin) {
  __syncthreads();
  for (int i = threadIdx.x; i < kBins; i += kSelectThreads) {
    s.mass[i] = 0;
    s.count[i] = 0;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < row.count; i += kSelectThreads) {
    const float value = row.x[i];
    if (!row.candidate(value)) continue;
    const uint64_t key = Row::key(value, i);
    const int at = key >= bound ? bin(value, key) : -1;
    if (at < 0) continue;
    atomicAdd(&s.mass[at], row.mass(value));
    atomicAdd(&s.count[at], 1u);
  }
  __syncthreads();
}

// The fewest first candidates of those with key >= bound whose count is `target`, or whose mass is at least `share` of
// all of theirs: returns the key of the last of them. At least one; `bound` if they do not reach it.
struct Target {
  bool by_mass;
  unsigned long long count;
  double share;
};
__device__ inline uint64_t select(const Row& row, uint64_t bound, Target wanted, SelectShared& s) {
  fill_bins(row, bound, s, [&](float value, uint64_t) { return static_cast<int>(row.bucket(value)); });
  unsigned long long target = wanted.count;
  if (wanted.by_mass) {
    target = static_cast<unsigned long long>(ceil(wanted.share * static_cast<double>(total_of(s, true))));
  }
  if (target == 0) target = 1;
  if (!find_bin(s, wanted.by_mass, target)) return bound;
  const uint32_t bucket = s.bin;
  // Digits of the key, the high ones first: those of the logit, then those of the id.
  constexpr int kShifts[] = {53, 42, 32, 21, 10, 0};
  int known = 64;  // bits of the key below this are open
  uint64_t prefix = 0;
  uint32_t inside = s.count[bucket];
  target -= s.above;
  for (int shift : kShifts) {
    if (inside <= 1 && known < 64) break;
    const int width = known - shift;
    const int above = known;
    fill_bins(row, bound, s, [&](float value, uint64_t key) {
      if (row.bucket(value) != bucket || (above < 64 && key >> above != prefix)) return -1;
      return static_cast<int>(key >> shift & ((1u << width) - 1));
    });
    if (!find_bin(s, wanted.by_mass, target)) break;  // cannot be: the bucket reaches it
    prefix = (above < 64 ? prefix << width : 0) | s.bin;
    inside = s.count[s.bin];
    target -= s.above;
    known = shift;
    __syncthreads();
  }
  if (known == 0) return prefix;
  // It stands alone in its bin. Its whole key, lest something of a lower bucket pass for one of its bin.
  for (int i = threadIdx.x; i < row.count; i += kSelectThreads) {
    const float value = row.x[i];
    if (!row.candidate(value) || row.bucket(value) != bucket) continue;
    const uint64_t key = Row::key(value, i);
    if (key >= bound && key >> known == prefix) s.total = key;
  }
  __syncthreads();
  return s.total;
}

}  // namespace hylas::cuda
