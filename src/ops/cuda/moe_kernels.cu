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
// open: every row is computed on its own. With pair_expert every expert's pairs begin at a multiple of run_rows, and
// there are no runs.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) moe_sort_kernel(SortArgs args, int32_t* pair_expert) {
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
    if (pair_expert) {
      pair_expert[pair] = expert;
    } else {
      args.pair_token[pair] = i / args.k;
    }
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

// Counts become places: every expert's from a multiple of run_rows on.
__global__ void __launch_bounds__(kExpertsMax) moe_places_kernel(SortArgs args) {
  __shared__ int memory[kExpertsMax / 32];
  follow();
  const int expert = static_cast<int>(threadIdx.x);
  const int mine = expert < args.experts ? args.counters[expert] : 0;
  int total = 0;
  const int begin = block_scan<kExpertsMax>((mine + args.run_rows - 1) / args.run_rows * args.run_rows, memory, total);
  if (expert < args.experts) args.counters[expert] = begin;
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
  }
  if (i < args.k) args.pair_of[i] = held ? pair : -1;
  if (i == 0) *args.run_count = __popc(all);
}

constexpr int kSumThreads = 128;
constexpr int kRowsAhead = 8;  // loads of a thread under way

// `width` columns a thread; slices in blockIdx.z.
template <class Row, class Shared, int width>
__global__ void __launch_bounds__(kSumThreads) moe_sum_kernel(CombineArgs args) {
  follow();
  const int64_t t = blockIdx.x, c = (blockIdx.y * static_cast<int64_t>(kSumThreads) + threadIdx.x) * width;
  const int s = blockIdx.z;
  if (c >= args.columns) return;
  const float* weights = static_cast<const float*>(args.weights.data) + t * args.weights.stride;
  const Row* rows = static_cast<const Row*>(args.rows.data) + s * args.rows_slice_stride + c;
  float sum[width] = {}, shared[width] = {}, gate = 0.f;
  if (args.shared.data) {
    load<width>(static_cast<const Shared*>(args.shared.data) + s * args.shared_slice_stride + t * args.columns + c,
                shared);
    gate = sigmoid(static_cast<const float*>(args.shared_logit.data)[t * args.shared_logit.stride]);
  }
  for (int from = 0; from < args.k; from += kRowsAhead) {
    float value[kRowsAhead][width], weight[kRowsAhead];
    bool there[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int j = from + i;
      there[i] = j < args.k;
      if (!there[i]) continue;
      const int64_t row = args.index ? args.index[t * args.index_stride + j] : t * args.k + j;
      if (row >= 0) load<width>(rows + row * args.columns, value[i]);
      there[i] = row >= 0;
      weight[i] = weights[j];
      if (args.index) continue;  // what was not computed is read, so as not to wait for the ids first
      const int expert = static_cast<const int32_t*>(args.ids.data)[t * args.ids.stride + j] - args.expert_begin;
      there[i] = expert >= 0 && expert < args.experts;
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (!there[i]) continue;
      for (int w = 0; w < width; ++w) sum[w] = fmaf(weight[i], value[i][w], sum[w]);
    }
  }
  if (args.shared.data) {
    for (int w = 0; w < width; ++w) sum[w] = fmaf(gate, shared[w], sum[w]);
  }
  store<width>(args.partials + s * args.partials_slice_stride + t * args.columns + c, sum);
}

template <class Row, class Shared, int width>
void launch_sum(const CombineArgs& args, Stream stream) {
  const int64_t packs = (args.columns + width - 1) / width;
  const dim3 grid(static_cast<unsigned>(args.tokens), static_cast<unsigned>((packs + kSumThreads - 1) / kSumThreads),
                  static_cast<unsigned>(args.slices));
  launch_following(moe_sum_kernel<Row, Shared, width>, grid, kSumThreads, 0, stream, "moe (sum)", args);
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
void sort_pairs(const SortArgs& args, int32_t* pair_expert, Stream stream) {
  constexpr int kFew = 256;
  constexpr int64_t kFewPairs = 2048;
  if (args.experts <= kFew && args.tokens * args.k <= kFewPairs) {
    launch_following(moe_sort_kernel<kFew>, 1, kFew, 0, stream, "moe (sort)", args, pair_expert);
  } else {
    launch_following(moe_sort_kernel<kExpertsMax>, 1, kExpertsMax, 0, stream, "moe (sort)", args, pair_expert);
  }
}

}  // namespace

void moe_sort(const SortArgs& args, Stream stream) {
  if (args.tokens == 1 && args.k <= 32) {
    launch_following(moe_sort_one_kernel, 1, 32, 0, stream, "moe (sort)", args);
  } else {
    sort_pairs(args, nullptr, stream);
  }
}

void moe_sort_padded(const SortArgs& args, int32_t* pair_expert, int64_t rows, Stream stream) {
  check(cudaMemsetAsync(pair_expert, 0xff, static_cast<size_t>(rows) * sizeof(int32_t), stream), "moe (sort)");
  if (const int64_t pairs = args.tokens * args.k; pairs > kManyPairs) {
    check(cudaMemsetAsync(args.counters, 0, static_cast<size_t>(args.experts) * sizeof(int32_t), stream), "moe (sort)");
    const auto blocks = static_cast<unsigned>((pairs + kManyPairs - 1) / kManyPairs);
    launch_following(moe_count_kernel, blocks, kManyThreads, 0, stream, "moe (sort)", args);
    launch_following(moe_places_kernel, 1, kExpertsMax, 0, stream, "moe (sort)", args);
    return launch_following(moe_place_kernel, blocks, kManyThreads, 0, stream, "moe (sort)", args, pair_expert);
  }
  sort_pairs(args, pair_expert, stream);
}

void moe_sum(const CombineArgs& args, Stream stream) {
  if (args.tokens == 0) return;
  if (args.rows.data && args.rows.dtype == DType::kBF16) {
    if (args.shared.dtype == DType::kBF16) return launch_sum<Bf16, Bf16, kVector>(args, stream);
    return launch_sum<Bf16, float, kVector>(args, stream);
  }
  if (args.shared.dtype == DType::kBF16) return launch_sum<float, Bf16, 4>(args, stream);
  if (four_at_once(args)) return launch_sum<float, float, 4>(args, stream);
  launch_sum<float, float, 1>(args, stream);
}

}  // namespace hylas::cuda
