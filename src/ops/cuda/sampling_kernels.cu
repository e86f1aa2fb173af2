#include "ops/cuda/sampling_kernels.h"

#include "ops/cuda/select.cuh"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void copy_masked_kernel(MaskArgs args) {
  const int row = blockIdx.y, token = blockIdx.x * kThreads + threadIdx.x;
  if (token >= args.count) return;
  float value = static_cast<const float*>(args.logits.data)[args.sources[row] * args.logits.stride + token];
  const int mask = args.mask_of[row];
  if (mask >= 0 && !(args.masks[mask * args.mask_words + token / 32] >> token % 32 & 1)) value = -INFINITY;
  static_cast<float*>(args.changed.data)[row * args.changed.stride + token] = value;
}

__global__ void edit_logits_kernel(const LogitEdit* edits, int64_t count, float* changed, int64_t stride) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= count) return;
  const LogitEdit edit = edits[i];
  float& x = changed[edit.row * stride + edit.token];
  if (edit.repeat != 1.f) x *= x > 0 ? 1 / edit.repeat : edit.repeat;
  x = x - edit.subtract + edit.add;
}

struct Sorted {
  uint64_t key[kSortedMax];
  int size;
};

__device__ int token_of(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }

// All candidates with key >= bound, at most kSortedMax, first ones first.
__device__ void collect_sorted(const Row& row, uint64_t bound, Sorted& sorted) {
  if (threadIdx.x == 0) sorted.size = 0;
  sorted.key[threadIdx.x] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < row.count; i += kSelectThreads) {
    if (!row.candidate(row.x[i])) continue;
    const uint64_t key = Row::key(row.x[i], i);
    if (key < bound) continue;
    const int at = atomicAdd(&sorted.size, 1);
    if (at < kSortedMax) sorted.key[at] = key;
  }
  __syncthreads();
  for (int size = 2; size <= kSortedMax; size *= 2) {  // bitonic, descending
    for (int step = size / 2; step > 0; step /= 2) {
      const int other = threadIdx.x ^ step;
      const uint64_t mine = sorted.key[threadIdx.x], theirs = sorted.key[other];
      const bool larger_first = (threadIdx.x & size) == 0;
      const bool keep_larger = (static_cast<int>(threadIdx.x) < other) == larger_first;
      const uint64_t kept = keep_larger ? max(mine, theirs) : min(mine, theirs);
      __syncthreads();
      sorted.key[threadIdx.x] = kept;
      __syncthreads();
    }
  }
}

// top-p, min-p and the draw over sorted candidates, one after the other as the definition goes.
__device__ int draw_sorted(const Row& row, const DrawRow& params, const Sorted& sorted) {
  const auto weight = [&](int i) { return static_cast<double>(row.weight(row.x[token_of(sorted.key[i])])); };
  // The fewest whose weights reach `mass`.
  const auto reach = [&](int size, double mass) {
    double sum = 0;
    for (int i = 0; i < size; ++i) {
      sum += weight(i);
      if (sum >= mass) return i + 1;
    }
    return size;
  };
  const auto sum_of = [&](int size) {
    double sum = 0;
    for (int i = 0; i < size; ++i) sum += weight(i);
    return sum;
  };
  int size = min(sorted.size, kSortedMax);
  double total = sum_of(size);
  if (params.top_p < 1.f) size = reach(size, params.top_p * total);
  if (params.min_p > 0.f) {
    int kept = 0;
    while (kept < size && weight(kept) >= params.min_p) ++kept;
    size = max(kept, 1);
  }
  if (params.top_p < 1.f || params.min_p > 0.f) total = sum_of(size);
  return token_of(sorted.key[reach(size, params.share * total) - 1]);
}

// The bound of the candidates whose weight is at least min_p; at least one stays.
__device__ uint64_t min_p_bound(const Row& row, uint64_t bound, float min_p, SelectShared& s) {
  unsigned long long mine = 0;
  for (int i = threadIdx.x; i < row.count; i += kSelectThreads) {
    const float value = row.x[i];
    if (row.candidate(value) && row.weight(value) >= min_p && Row::key(value, i) >= bound) ++mine;
  }
  if (threadIdx.x == 0) s.total = 0;
  __syncthreads();
  atomicAdd(&s.total, mine);
  __syncthreads();
  const unsigned long long kept = s.total;
  return select(row, bound, {false, kept, 0}, s);
}

// The token of a row, known to thread 0.
__device__ int draw_token(const DrawRow& params, int32_t count, SelectShared& s, Sorted& sorted) {
  Row row = {params.logits, count, 0.f, params.inverse_temperature};
  int first = 0;
  find_highest(row.x, count, s, row.highest, first);
  if (row.highest == -INFINITY) return -1;
  if (params.greedy || isinf(row.highest)) return first;
  uint64_t bound = 0;
  if (params.top_k > 0 && params.top_k < count) {
    bound = select(row, bound, {false, static_cast<unsigned long long>(params.top_k), 0}, s);
    if (params.top_k <= kSortedMax) {
      collect_sorted(row, bound, sorted);
      return threadIdx.x == 0 ? draw_sorted(row, params, sorted) : 0;
    }
  }
  if (params.top_p < 1.f) bound = select(row, bound, {true, 0, static_cast<double>(params.top_p)}, s);
  if (params.min_p > 0.f) bound = min_p_bound(row, bound, params.min_p, s);
  return token_of(select(row, bound, {true, 0, params.share}, s));
}

__global__ void __launch_bounds__(kSelectThreads) draw_kernel(DrawArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  follow();
  const DrawRow row = args.rows[blockIdx.x];
  const int token = draw_token(row, args.count, *reinterpret_cast<SelectShared*>(memory),
                               *reinterpret_cast<Sorted*>(memory + sizeof(SelectShared)));
  if (threadIdx.x != 0) return;
  args.tokens[blockIdx.x] = token;
  if (args.last_tokens) args.last_tokens[row.slot] = max(token, 0);
}

__global__ void feed_kernel(int32_t* ids, int64_t count, const int32_t* last_tokens) {
  follow();
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= count) return;
  const int32_t id = ids[i];
  if (id < 0) ids[i] = last_tokens[-1 - id];
}

__global__ void __launch_bounds__(kSelectThreads) score_kernel(ScoreArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  SelectShared& s = *reinterpret_cast<SelectShared*>(memory);
  Sorted& sorted = *reinterpret_cast<Sorted*>(memory + sizeof(SelectShared));
  __shared__ double sums[kSelectThreads / 32];
  const float* x = static_cast<const float*>(args.logits.data) + args.row_of[blockIdx.x] * args.logits.stride;
  Row row = {x, args.count, 0.f, 1.f};
  int first = 0;
  find_highest(x, args.count, s, row.highest, first);
  double sum = 0;
  for (int i = threadIdx.x; i < args.count; i += kSelectThreads) {
    sum += row.candidate(x[i]) ? static_cast<double>(row.weight(x[i])) : 0.0;
  }
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (double part : sums) sum += part;
    const int target = args.targets[blockIdx.x];
    args.scores[blockIdx.x] = {row.highest, target < 0 || target >= args.count ? -INFINITY : x[target], sum};
  }
  const int best = min(args.best, args.best_of);
  if (best == 0) return;
  row.count = args.best_of;
  find_highest(x, args.best_of, s, row.highest, first);
  if (row.highest == -INFINITY || isinf(row.highest)) row.highest = 0.f;  // buckets need a finite base
  const uint64_t bound = select(row, 0, {false, static_cast<unsigned long long>(best), 0}, s);
  collect_sorted(row, bound, sorted);
  for (int i = threadIdx.x; i < args.best; i += kSelectThreads) {
    const bool there = i < min(sorted.size, best);
    const int token = there ? token_of(sorted.key[i]) : -1;
    args.best_tokens[blockIdx.x * args.best + i] = token;
    args.best_logits[blockIdx.x * args.best + i] = there ? x[token] : 0.f;
  }
}

constexpr int kSharedBytes = sizeof(SelectShared) + sizeof(Sorted);

}  // namespace

void copy_masked(const MaskArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>((args.count + kThreads - 1) / kThreads), static_cast<unsigned>(args.rows));
  copy_masked_kernel<<<grid, kThreads, 0, stream>>>(args);
  check_launch("sample (mask)");
}

void edit_logits(const LogitEdit* edits, int64_t count, const View& changed, Stream stream) {
  if (count == 0) return;
  edit_logits_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      edits, count, static_cast<float*>(changed.data), changed.stride);
  check_launch("sample (penalties)");
}

void draw(const DrawArgs& args, Stream stream) {
  if (args.draws == 0) return;
  launch_following(draw_kernel, static_cast<unsigned>(args.draws), kSelectThreads, kSharedBytes, stream,
                   "sample (draw)", args);
}

void feed_tokens(int32_t* ids, int64_t count, const int32_t* last_tokens, Stream stream) {
  if (count == 0) return;
  launch_following(feed_kernel, static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream, "feed",
                   ids, count, last_tokens);
}

void score(const ScoreArgs& args, Stream stream) {
  if (args.results == 0) return;
  score_kernel<<<static_cast<unsigned>(args.results), kSelectThreads, kSharedBytes, stream>>>(args);
  check_launch("logprobs");
}

}  // namespace hylas::cuda
