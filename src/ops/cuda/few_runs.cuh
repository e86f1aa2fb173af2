#pragma once
// Which rows of which experts the items of gemm_fp8_few.cu are: every block sorts all choices for itself, which takes
// less time than a kernel before it would. All blocks find the same runs, in ascending order of experts.
#include "ops/cuda/bulk_copy.cuh"
#include "ops/cuda/gemm_fp8_few.h"

namespace hylas::cuda {

// Rows of one expert: of its pairs in RunLists::pair those from `begin` on.
struct FewRun {
  uint16_t expert = 0, begin = 0, rows = 0, unused = 0;
};

// In shared memory. Runs of the shared expert, which all tokens have, come before the others and are not listed: but
// for the first of them their weights come from the second-level cache, and at the end memory would have nothing to do.
struct RunLists {
  int* count;      // [experts] first of an expert's pairs and, from bit 16 on, how many
  FewRun* run;     // [runs_max]
  uint16_t* pair;  // [pairs] by expert
  int* scratch;    // [pairs] expert from bit 16 on, place among its pairs; negative: held elsewhere
  int* runs;       // [2]: listed, all
};

// Pairs came in any order, and which of an expert's runs one belongs to must not depend on that.
template <int kRows, int kThreads>
__device__ void order_pairs(const RunLists& lists, int pairs) {
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();
  for (int i = thread; i < pairs; i += kThreads) {
    const int expert = lists.scratch[i] >> 16;
    if (expert < 0) continue;
    const int count = lists.count[expert] >> 16, begin = lists.count[expert] & 0xffff;
    if (count <= kRows) continue;
    int rank = 0;
    for (int other = begin; other < begin + count; ++other) rank += lists.pair[other] < i;
    lists.scratch[i] = expert << 16 | rank;
  }
  __syncthreads();
  for (int i = thread; i < pairs; i += kThreads) {
    const int found = lists.scratch[i], begin_count = found < 0 ? 0 : lists.count[found >> 16];
    if (begin_count >> 16 > kRows) lists.pair[(begin_count & 0xffff) + (found & 0xffff)] = static_cast<uint16_t>(i);
  }
}

// All threads of the block make the lists, which are there for all behind the next barrier. All blocks make the same.
template <int kRows, int kThreads>
__device__ void find_runs(const FewFp8Args& p, const RunLists& lists) {
  __shared__ int warp_sums[kThreads / 32];
  __shared__ bool crowded;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int pairs = static_cast<int>(p.tokens) * p.k;
  for (int e = thread; e < p.experts; e += kThreads) lists.count[e] = 0;
  if (thread == 0) crowded = false;
  __syncthreads();
#pragma unroll 8
  for (int i = thread; i < pairs; i += kThreads) {
    const int expert = static_cast<const int32_t*>(p.ids.data)[i / p.k * p.ids.stride + i % p.k] - p.expert_begin;
    const bool held = expert >= 0 && expert < p.experts;
    lists.scratch[i] = held ? expert << 16 | atomicAdd(&lists.count[expert], 1) : -1;
  }
  __syncthreads();
  // One sum over experts of pairs and, from bit 16 on, of runs.
  const int each = (p.experts + kThreads - 1) / kThreads, from = thread * each, to = min(from + each, p.experts);
  const auto both = [](int count) { return count | (count + kRows - 1) / kRows << 16; };
  int mine = 0;
  for (int e = from; e < to; ++e) mine += both(lists.count[e]);
  int through = mine;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, through, offset);
    if (lane >= offset) through += other;
  }
  if (lane == 31) warp_sums[warp] = through;
  __syncthreads();
  int at = through - mine, total = 0;
  for (int i = 0; i < kThreads / 32; ++i) {
    if (i < warp) at += warp_sums[i];
    total += warp_sums[i];
  }
  for (int e = from; e < to; ++e) {
    const int count = lists.count[e], begin = at & 0xffff;
    for (int i = 0; i * kRows < count; ++i) {
      lists.run[(at >> 16) + i] = {static_cast<uint16_t>(e), static_cast<uint16_t>(begin + i * kRows),
                                   static_cast<uint16_t>(min(kRows, count - i * kRows))};
    }
    lists.count[e] = begin | count << 16;
    if (count > kRows) crowded = true;
    at += both(count);
  }
  if (thread == 0) {
    lists.runs[0] = total >> 16;
    lists.runs[1] = (total >> 16) + (p.with_shared ? (static_cast<int>(p.tokens) + kRows - 1) / kRows : 0);
  }
  __syncthreads();
  for (int i = thread; i < pairs; i += kThreads) {
    const int found = lists.scratch[i];
    if (found >= 0) lists.pair[(lists.count[found >> 16] & 0xffff) + (found & 0xffff)] = static_cast<uint16_t>(i);
  }
  if (crowded) order_pairs<kRows, kThreads>(lists, pairs);
}

// Expert p.experts is the shared one.
template <int kRows>
__device__ __forceinline__ FewRun run_at(const FewFp8Args& p, const RunLists& lists, int run) {
  const int before = lists.runs[1] - lists.runs[0];
  if (run >= before) return lists.run[run - before];
  const int begin = run * kRows;
  return {static_cast<uint16_t>(p.experts), static_cast<uint16_t>(begin),
          static_cast<uint16_t>(min(kRows, static_cast<int>(p.tokens) - begin))};
}

__device__ __forceinline__ int pair_at(const FewFp8Args& p, const RunLists& lists, const FewRun& run, int row) {
  return run.expert == p.experts ? static_cast<int>(p.tokens) * p.k + run.begin + row : lists.pair[run.begin + row];
}

// What a block takes at once: items one behind the other, of gate and up or of the down products.
struct FewUnit {
  bool paired = false;
  int begin = 0;
  int count = 0;  // 0: there is no more
};

// How one product's items are shared out: in order, at first in units of `many`, at the end in units of `few`.
struct FewShares {
  int items, many, few, first;  // units of many
  __device__ FewShares(int items, int many, int few, int eighths)
      : items(items), many(many), few(few), first(items / many * eighths / 8) {}
  __device__ int units() const { return first + (items - first * many + few - 1) / few; }
  __device__ FewUnit at(bool paired, int i) const {
    if (i < first) return {paired, i * many, many};
    const int begin = first * many + (i - first) * few;
    return {paired, begin, min(few, items - begin)};
  }
};

// Blocks take units in this order by a counter, which is the order of runs: gate and up, which wait for nothing, before
// the down products, which wait for those of their run. By then these are mostly done; and whoever waits, waits for
// blocks that run, however few there are.
struct FewPlan {
  FewShares up, down;
  int runs;
  __device__ FewUnit unit(int i) const {
    if (i < up.units()) return up.at(true, i);
    i -= up.units();
    return i < down.units() ? down.at(false, i) : FewUnit{};
  }
};

}  // namespace hylas::cuda
