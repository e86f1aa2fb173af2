#pragma once
// Which rows of which experts the items of gemm_fp8_few.cu are: every block counts all choices for itself, which takes
// less time than a kernel before it would. All blocks find the same runs, in ascending order of experts and pairs.
#include "ops/cuda/bulk_copy.cuh"
#include "ops/cuda/gemm_fp8_few.h"

namespace hylas::cuda {

// In shared memory.
struct RunLists {
  int* begin;        // [experts + 1] first run of an expert; behind the last one come the shared expert's
  uint16_t* expert;  // [pairs, up to a multiple of 128] kNoExpert: held elsewhere, or no pair
};
constexpr uint16_t kNoExpert = 0xffff;

// A run of one expert; its pairs stand beside it.
struct FewRun {
  int expert = 0;
  int rows = 0;
};

// All threads of the block make the lists; answers the number of runs.
template <int kRows, int kThreads>
__device__ int find_runs(const FewFp8Args& p, int pairs_padded, const RunLists& lists) {
  __shared__ int warp_runs[kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pairs = static_cast<int>(p.tokens) * p.k;
  for (int e = threadIdx.x; e < p.experts; e += kThreads) lists.begin[e] = 0;
  __syncthreads();
#pragma unroll 4
  for (int i = threadIdx.x; i < pairs_padded; i += kThreads) {
    int expert = -1;
    if (i < pairs) {
      expert = static_cast<const int32_t*>(p.ids.data)[i / p.k * p.ids.stride + i % p.k] - p.expert_begin;
      if (expert >= p.experts) expert = -1;
    }
    lists.expert[i] = expert < 0 ? kNoExpert : static_cast<uint16_t>(expert);
    if (expert >= 0) atomicAdd(&lists.begin[expert], 1);
  }
  __syncthreads();
  const int each = (p.experts + kThreads - 1) / kThreads, from = threadIdx.x * each, to = min(from + each, p.experts);
  int mine = 0;
  for (int e = from; e < to; ++e) mine += (lists.begin[e] + kRows - 1) / kRows;
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
  for (int e = from; e < to; ++e) {
    const int runs = (lists.begin[e] + kRows - 1) / kRows;
    lists.begin[e] = at;
    at += runs;
  }
  if (threadIdx.x == 0) lists.begin[p.experts] = total;
  __syncthreads();
  return total + (p.with_shared ? (static_cast<int>(p.tokens) + kRows - 1) / kRows : 0);
}

// Whose run it is: the last expert that begins there or before.
__device__ __forceinline__ int expert_of_run(const FewFp8Args& p, const RunLists& lists, int run) {
  int low = 0, high = p.experts;  // begins: low's is not behind the run
  if (lists.begin[high] <= run) return p.experts;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (lists.begin[middle] <= run ? low : high) = middle;
  }
  return low;
}

// The run's pairs, in ascending order. One warp; several may write the same.
template <int kRows>
__device__ FewRun take_run(const FewFp8Args& p, const RunLists& lists, int run, int* pair) {
  const int lane = threadIdx.x % 32, pairs = static_cast<int>(p.tokens) * p.k;
  FewRun taken = {expert_of_run(p, lists, run), 0};
  const int first = (run - lists.begin[taken.expert]) * kRows;
  __syncwarp();
  if (taken.expert == p.experts) {
    taken.rows = min(kRows, static_cast<int>(p.tokens) - first);
    if (lane < taken.rows) pair[lane] = pairs + first + lane;
  } else {
    int before = 0;
    for (int from = 0; from < pairs && before < first + kRows; from += 128) {
      const auto four = *reinterpret_cast<const ushort4*>(lists.expert + from + 4 * lane);
      const uint16_t mine[] = {four.x, four.y, four.z, four.w};
      unsigned all[4];
      int rank = before;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        all[j] = __ballot_sync(~0u, mine[j] == taken.expert);
        rank += __popc(all[j] & ((1u << lane) - 1));
        before += __popc(all[j]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (mine[j] != taken.expert) continue;
        if (rank >= first && rank < first + kRows) pair[rank - first] = from + 4 * lane + j;
        ++rank;
      }
    }
    taken.rows = min(kRows, before - first);
  }
  __syncwarp();
  return taken;
}

// How items are shared out: `own` of each block, one block's behind the other's, and the others in units of so many, by
// a counter.
struct Shares {
  int items, own, unit;
  // With 16 rows a run's are not ready in the time that a unit's weights take: only what does not go up is left over.
  __device__ Shares(int items, int run_rows) : items(items) {
    const int blocks = static_cast<int>(gridDim.x);
    own = items / blocks;
    if (run_rows <= 8 && own >= 16) own = own * 7 / 8;
    unit = min(4, max(1, items / (16 * blocks)));
  }
  __device__ int begin() const { return static_cast<int>(blockIdx.x) * own; }
  __device__ int rest() const { return static_cast<int>(gridDim.x) * own; }
};

// Units on their way from the thread that copies to the others. It is never further ahead than its ring of copies is
// long, fewer than kUnits - 2, so a place is free when its turn comes.
constexpr int kUnits = 16;
struct Units {
  int* begin;  // [kUnits] negative: no more
  uint64_t* known;
  int at = 0;
  uint32_t round = 0;
  __device__ void put(int item) {
    begin[at] = item;
    barrier_arrive(known + at);
    next();
  }
  __device__ int take() {
    barrier_wait(known + at, round);
    const int item = begin[at];
    next();
    return item;
  }
  __device__ void next() {
    if (++at < kUnits) return;
    at = 0;
    round ^= 1;
  }
};

}  // namespace hylas::cuda
