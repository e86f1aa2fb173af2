#include "ops/cuda/moe_kernels.h"

#include "ops/cuda/route.h"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

// Exclusive prefix sum over the block; `total` is everything.
template <int kThreads>
__device__ int block_scan(int value, int* memory, int& total) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += other;
  }
  __syncthreads();
  if (lane == 31) memory[warp] = sum;
  __syncthreads();
  int before = 0;
  total = 0;
  for (int i = 0; i < kThreads / 32; ++i) {
    if (i < warp) before += memory[i];
    total += memory[i];
  }
  return before + sum - value;
}

// One block counts, scans and places, with a thread for each expert at least. The order of an expert's pairs is left
// open: every row is computed on its own. With pair_expert every expert's pairs begin at a multiple of run_rows,
// pair_end is where the last ones' runs end, and there are no runs.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) moe_sort_kernel(SortArgs args, int32_t* pair_expert, int32_t* pair_end) {
  __shared__ int count[kThreads];
  __shared__ int memory[kThreads / 32];
  follow();
  count[threadIdx.x] = 0;
  __syncthreads();
  const int pairs = static_cast<int>(args.tokens) * args.k;
  const auto expert_of = [&](int i) {
    const int id = static_cast<const int32_t*>(args.ids.data)[i / args.k * args.ids.stride + i % args.k];
    const int expert = id - args.expert_begin;
    return expert >= 0 && expert < args.experts ? expert : -1;
  };
#pragma unroll 4
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const int expert = expert_of(i);
    if (expert >= 0) atomicAdd(&count[expert], 1);
  }
  __syncthreads();
  const int mine = count[threadIdx.x], my_runs = (mine + args.run_rows - 1) / args.run_rows;
  int total = 0, total_runs = 0;
  const int begin = block_scan<kThreads>(pair_expert ? my_runs * args.run_rows : mine, memory, total);
  if (threadIdx.x == 0 && pair_expert) *pair_end = total;
  const int run_begin = block_scan<kThreads>(my_runs, memory, total_runs);
  for (int i = 0; i < my_runs && args.runs; ++i) {
    args.runs[run_begin + i] = {static_cast<int32_t>(threadIdx.x), begin + i * args.run_rows,
                                begin + min(mine, (i + 1) * args.run_rows)};
  }
  if (threadIdx.x == 0 && args.run_count) *args.run_count = total_runs;
  count[threadIdx.x] = begin;
  __syncthreads();
#pragma unroll 4
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const int expert = expert_of(i);
    const int pair = expert < 0 ? -1 : atomicAdd(&count[expert], 1);
    args.pair_of[i] = pair;
    if (pair < 0) continue;
    if (pair_expert) pair_expert[pair] = expert;
    if (args.pair_token) args.pair_token[pair] = i / args.k;
    if (args.pair_choice) args.pair_choice[pair] = i;
  }
}

// Many pairs: blocks count theirs, one block finds where experts begin, blocks take places for theirs and fill them.
constexpr int kManyThreads = 256;
constexpr int kManyPairs = 2048;  // of a block

__device__ __forceinline__ int expert_of(const SortArgs& args, int pair) {
  const int id = static_cast<const int32_t*>(args.ids.data)[pair / args.k * args.ids.stride + pair % args.k];
  const int expert = id - args.expert_begin;
  return expert >= 0 && expert < args.experts ? expert : -1;
}

// The block's pairs of each expert, in `count`.
__device__ void count_pairs(const SortArgs& args, int pairs, int* count) {
  for (int e = threadIdx.x; e < args.experts; e += kManyThreads) count[e] = 0;
  __syncthreads();
  const int begin = blockIdx.x * kManyPairs, end = min(begin + kManyPairs, pairs);
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kManyThreads) {
    const int expert = expert_of(args, i);
    if (expert >= 0) atomicAdd(&count[expert], 1);
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kManyThreads) moe_count_kernel(SortArgs args) {
  __shared__ int count[kExpertsMax];
  follow();
  count_pairs(args, static_cast<int>(args.tokens) * args.k, count);
  for (int e = threadIdx.x; e < args.experts; e += kManyThreads) {
    if (count[e] > 0) atomicAdd(&args.counters[e], count[e]);
  }
}

// Counts become places: every expert's from a multiple of run_rows on, as the last ones end at pair_end.
__global__ void __launch_bounds__(kExpertsMax) moe_places_kernel(SortArgs args, int32_t* pair_end) {
  __shared__ int memory[kExpertsMax / 32];
  follow();
  const int expert = static_cast<int>(threadIdx.x);
  const int mine = expert < args.experts ? args.counters[expert] : 0;
  int total = 0;
  const int begin = block_scan<kExpertsMax>((mine + args.run_rows - 1) / args.run_rows * args.run_rows, memory, total);
  if (expert < args.experts) args.counters[expert] = begin;
  if (expert == 0) *pair_end = total;
}

__global__ void __launch_bounds__(kManyThreads) moe_place_kernel(SortArgs args, int32_t* pair_expert) {
  __shared__ int place[kExpertsMax];
  follow();
  const int pairs = static_cast<int>(args.tokens) * args.k;
  count_pairs(args, pairs, place);
  for (int e = threadIdx.x; e < args.experts; e += kManyThreads) {
    if (place[e] > 0) place[e] = atomicAdd(&args.counters[e], place[e]);
  }
  __syncthreads();
  const int begin = blockIdx.x * kManyPairs, end = min(begin + kManyPairs, pairs);
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kManyThreads) {
    const int expert = expert_of(args, i);
    const int pair = expert < 0 ? -1 : atomicAdd(&place[expert], 1);
    args.pair_of[i] = pair;
    if (pair < 0) continue;
    pair_expert[pair] = expert;
    if (args.pair_token) args.pair_token[pair] = i / args.k;
  }
}

// One token: its choices are different experts, each a run of its own. A warp.
__global__ void moe_sort_one_kernel(SortArgs args) {
  follow();
  const int i = threadIdx.x;
  int expert = -1;
  if (i < args.k) expert = static_cast<const int32_t*>(args.ids.data)[i] - args.expert_begin;
  const bool held = expert >= 0 && expert < args.experts;
  const unsigned all = __ballot_sync(~0u, held);
  const int pair = __popc(all & ((1u << i) - 1));
  if (held) {
    args.runs[pair] = {expert, pair, pair + 1};
    args.pair_token[pair] = 0;
    if (args.pair_choice) args.pair_choice[pair] = i;
  }
  if (i < args.k) args.pair_of[i] = held ? pair : -1;
  if (i == 0) *args.run_count = __popc(all);
}

constexpr int kSumThreads = 128;
constexpr int kRowsAhead = 8;  // loads of a thread under way

// A thread's columns of a row as they come, one access: to convert them at once would be to wait for them.
template <class T>
struct Columns;
template <>
struct Columns<Bf16> {
  static constexpr int kWidth = kVector;
  uint4 raw;
  __device__ void add(float weight, float (&sum)[kWidth]) const {
    const uint32_t pairs[] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sum[i] = fmaf(weight, __uint_as_float(i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xffff0000u), sum[i]);
    }
  }
};
template <>
struct Columns<float4> {
  static constexpr int kWidth = 4;
  float4 raw;
  __device__ void add(float weight, float (&sum)[kWidth]) const {
    const float values[] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] = fmaf(weight, values[i], sum[i]);
  }
};
template <>
struct Columns<float> {
  static constexpr int kWidth = 1;
  float raw;
  __device__ void add(float weight, float (&sum)[kWidth]) const { sum[0] = fmaf(weight, raw, sum[0]); }
};

// The row of choice j of token t; negative: none.
template <bool by_pair>
__device__ __forceinline__ int row_of(const CombineArgs& args, int64_t t, int j) {
  if constexpr (!by_pair) return args.index[t * args.index_stride + j];
  const int expert = static_cast<const int32_t*>(args.ids.data)[t * args.ids.stride + j] - args.expert_begin;
  return expert >= 0 && expert < args.experts ? static_cast<int>(t) * args.k + j : -1;
}

// Slices in blockIdx.z; a row's columns in pieces of C, those of the shared expert's row as floats or bf16.
template <class C, class Shared, bool by_pair>
__global__ void __launch_bounds__(kSumThreads) moe_sum_kernel(CombineArgs args) {
  constexpr int kWidth = Columns<C>::kWidth;
  __shared__ int row[kRowsAhead];
  __shared__ float weight[kRowsAhead];
  follow();
  const int64_t t = blockIdx.x, pieces = args.columns / kWidth;
  const int64_t piece = blockIdx.y * static_cast<int64_t>(kSumThreads) + threadIdx.x;
  const int s = blockIdx.z;
  const bool inside = piece < pieces;
  const auto* rows = static_cast<const decltype(Columns<C>::raw)*>(args.rows.data) +
                     (inside ? s * args.rows_slice_stride / kWidth + piece : 0);
  float sum[kWidth] = {}, shared[kWidth] = {}, logit = 0.f;
  if (args.shared.data && inside) {
    load<kWidth>(
        static_cast<const Shared*>(args.shared.data) + s * args.shared_slice_stride + (t * pieces + piece) * kWidth,
        shared);
    logit = static_cast<const float*>(args.shared_logit.data)[t * args.shared_logit.stride];
  }
  for (int from = 0; from < args.k; from += kRowsAhead) {
    Columns<C> value[kRowsAhead];
    if constexpr (by_pair) {  // what was not computed is read, so as not to wait for the ids first
#pragma unroll
      for (int i = 0; i < kRowsAhead; ++i) {
        if (from + i < args.k) value[i].raw = rows[(t * args.k + from + i) * pieces];
      }
    }
    if (const int j = from + static_cast<int>(threadIdx.x); threadIdx.x < kRowsAhead) {
      row[threadIdx.x] = j < args.k ? row_of<by_pair>(args, t, j) : -1;
      if (j < args.k) weight[threadIdx.x] = static_cast<const float*>(args.weights.data)[t * args.weights.stride + j];
    }
    __syncthreads();
    if constexpr (!by_pair) {
#pragma unroll
      for (int i = 0; i < kRowsAhead; ++i) {
        if (row[i] >= 0) value[i].raw = rows[row[i] * pieces];
      }
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (row[i] >= 0) value[i].add(weight[i], sum);
    }
    __syncthreads();
  }
  if (!inside) return;
  if (args.shared.data) {
    const float gate = sigmoid(logit);
    for (int w = 0; w < kWidth; ++w) sum[w] = fmaf(gate, shared[w], sum[w]);
  }
  store<kWidth>(args.partials + s * args.partials_slice_stride + (t * pieces + piece) * kWidth, sum);
}

template <class C, class Shared>
void launch_sum(const CombineArgs& args, Stream stream) {
  const int64_t pieces = args.columns / Columns<C>::kWidth;
  const dim3 grid(static_cast<unsigned>(args.tokens), static_cast<unsigned>((pieces + kSumThreads - 1) / kSumThreads),
                  static_cast<unsigned>(args.slices));
  const auto kernel = args.index ? moe_sum_kernel<C, Shared, false> : moe_sum_kernel<C, Shared, true>;
  launch_following(kernel, grid, kSumThreads, 0, stream, "moe (sum)", args);
}

// Whether rows of f32 can be read and written four columns at a time.
bool four_at_once(const CombineArgs& args) {
  const auto at_16 = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const int64_t strides = args.columns | args.rows_slice_stride | args.shared_slice_stride | args.partials_slice_stride;
  return strides % 4 == 0 && at_16(args.rows.data) && at_16(args.shared.data) && at_16(args.partials);
}

}  // namespace

namespace {

// Few threads for few pairs: there is less to wait for.
void sort_pairs(const SortArgs& args, int32_t* pair_expert, int32_t* pair_end, Stream stream) {
  constexpr int kFew = 256;
  constexpr int64_t kFewPairs = 2048;
  if (args.experts <= kFew && args.tokens * args.k <= kFewPairs) {
    launch_following(moe_sort_kernel<kFew>, 1, kFew, 0, stream, "moe (sort)", args, pair_expert, pair_end);
  } else {
    launch_following(moe_sort_kernel<kExpertsMax>, 1, kExpertsMax, 0, stream, "moe (sort)", args, pair_expert,
                     pair_end);
  }
}

}  // namespace

void moe_sort(const SortArgs& args, Stream stream) {
  if (args.tokens == 1 && args.k <= 32) {
    launch_following(moe_sort_one_kernel, 1, 32, 0, stream, "moe (sort)", args);
  } else {
    sort_pairs(args, nullptr, nullptr, stream);
  }
}

void moe_sort_padded(const SortArgs& args, int32_t* pair_expert, int64_t rows, Stream stream) {
  check(cudaMemsetAsync(pair_expert, 0xff, static_cast<size_t>(rows) * sizeof(int32_t), stream), "moe (sort)");
  if (const int64_t pairs = args.tokens * args.k; pairs > kManyPairs) {
    check(cudaMemsetAsync(args.counters, 0, static_cast<size_t>(args.experts) * sizeof(int32_t), stream), "moe (sort)");
    const auto blocks = static_cast<unsigned>((pairs + kManyPairs - 1) / kManyPairs);
    launch_following(moe_count_kernel, blocks, kManyThreads, 0, stream, "moe (sort)", args);
    launch_following(moe_places_kernel, 1, kExpertsMax, 0, stream, "moe (sort)", args, pair_expert + rows);
    return launch_following(moe_place_kernel, blocks, kManyThreads, 0, stream, "moe (sort)", args, pair_expert);
  }
  sort_pairs(args, pair_expert, pair_expert + rows, stream);
}

void moe_sum(const CombineArgs& args, Stream stream) {
  if (args.tokens == 0) return;
  if (args.rows.data && args.rows.dtype == DType::kBF16) {
    if (args.shared.dtype == DType::kBF16) return launch_sum<Bf16, Bf16>(args, stream);
    return launch_sum<Bf16, float>(args, stream);
  }
  if (args.shared.dtype == DType::kBF16) return launch_sum<float4, Bf16>(args, stream);
  if (four_at_once(args)) return launch_sum<float4, float>(args, stream);
  launch_sum<float, float>(args, stream);
}

}  // namespace hylas::cuda
