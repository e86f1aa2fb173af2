#pragma once
// Which rows of which experts a block of gemm_fp8_few.cu has: every block counts all choices for itself, which takes
// less time than a kernel before it would. All blocks find the same runs, in ascending order of experts and pairs.
#include "ops/cuda/gemm_fp8_few.h"
#include "ops/cuda/route.h"

namespace hylas::cuda {

constexpr int kBlockRunsMax = 32;

// In shared memory.
struct BlockRuns {
  int begin = 0, end = 0;  // items of the block; an item is a tile of outputs of a run
  int first = 0;           // the run of its first item
  int count = 0;
  RowRun run[kBlockRunsMax];  // begin and end: among the expert's pairs
  int pair[kBlockRunsMax][kFewRows];
};

__device__ __forceinline__ int expert_of(const FewFp8Args& p, int pair) {
  const int id = static_cast<const int32_t*>(p.ids.data)[pair / p.k * p.ids.stride + pair % p.k] - p.expert_begin;
  return id >= 0 && id < p.experts ? id : -1;
}

// The pairs of run `i` in ascending order. One warp.
__device__ __forceinline__ void fill_run(const FewFp8Args& p, BlockRuns& block, int i) {
  const int lane = threadIdx.x % 32, pairs = static_cast<int>(p.tokens) * p.k;
  const RowRun run = block.run[i];
  if (run.expert == p.experts) {
    if (run.begin + lane < run.end) block.pair[i][lane] = pairs + run.begin + lane;
    return;
  }
  constexpr int kAhead = 4;  // loads under way
  int before = 0;
  for (int from = 0; from < pairs; from += 32 * kAhead) {
    int expert[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int at = from + 32 * j + lane;
      expert[j] = at < pairs ? expert_of(p, at) : -1;
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const unsigned all = __ballot_sync(~0u, expert[j] == run.expert);
      const int rank = before + __popc(all & ((1u << lane) - 1));
      if (expert[j] == run.expert && rank >= run.begin && rank < run.end) {
        block.pair[i][rank - run.begin] = from + 32 * j + lane;
      }
      before += __popc(all);
    }
  }
}

// Begins of the runs [begin, begin + their number) of `expert`, as far as they are the block's.
template <int kRows>
__device__ __forceinline__ void put_runs(BlockRuns& block, int last, int expert, int begin, int pairs) {
  for (int i = 0; i * kRows < pairs; ++i) {
    const int at = begin + i - block.first;
    if (at >= 0 && at <= last - block.first) block.run[at] = {expert, i * kRows, min(pairs, (i + 1) * kRows)};
  }
}

// All threads of the block; the pairs of the runs are not there yet (fill_run). `count` holds kExpertsMax numbers.
template <int kRows, int kThreads>
__device__ void find_runs(const FewFp8Args& p, int tiles, int* count, BlockRuns& block) {
  __shared__ int warp_runs[kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pairs = static_cast<int>(p.tokens) * p.k;
  for (int e = threadIdx.x; e < p.experts; e += kThreads) count[e] = 0;
  __syncthreads();
#pragma unroll 4
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const int expert = expert_of(p, i);
    if (expert >= 0) atomicAdd(&count[expert], 1);
  }
  __syncthreads();
  const int each = (p.experts + kThreads - 1) / kThreads, from = threadIdx.x * each, to = min(from + each, p.experts);
  int mine = 0;
  for (int e = from; e < to; ++e) mine += (count[e] + kRows - 1) / kRows;
  int through = mine;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, through, offset);
    if (lane >= offset) through += other;
  }
  if (lane == 31) warp_runs[warp] = through;
  __syncthreads();
  int at = through - mine, total = 0;
  for (int i = 0; i < kThreads / 32; ++i) {
    if (i < warp) at += warp_runs[i];
    total += warp_runs[i];
  }
  const int shared_pairs = p.with_shared ? static_cast<int>(p.tokens) : 0;
  const int64_t items = static_cast<int64_t>(total + (shared_pairs + kRows - 1) / kRows) * tiles;
  const int begin = static_cast<int>(items * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(items * (blockIdx.x + 1) / gridDim.x);
  const int first = begin / tiles, last = end > begin ? (end - 1) / tiles : first - 1;
  if (threadIdx.x == 0) {
    block.begin = begin;
    block.end = end;
    block.first = first;
    block.count = last + 1 - first;
  }
  __syncthreads();
  for (int e = from; e < to; ++e) {
    put_runs<kRows>(block, last, e, at, count[e]);
    at += (count[e] + kRows - 1) / kRows;
  }
  if (threadIdx.x == 0) put_runs<kRows>(block, last, p.experts, total, shared_pairs);
  __syncthreads();
}

}  // namespace hylas::cuda
