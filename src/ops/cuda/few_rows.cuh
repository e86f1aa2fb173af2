#pragma once
// The rows of a run in e4m3, where the tensor cores of gemm_fp8_few.cu look for them, and its scales.
#include "ops/cuda/copy_ahead.cuh"
#include "ops/cuda/few_block.cuh"
#include "ops/cuda/quantize.cuh"

namespace hylas::cuda::few {

// A block runs this code for the first time while its weights are under way already, and what is not yet in the
// instruction cache comes slower than they do: loops are not unrolled but where loads are to be under way at once, and
// nothing is divided in them.

// Quantizes `rows` rows of `groups` groups of 128 values, those behind the last input zeros: row_of(r) is where row r
// begins, put(r, group, lane, values, scale) gets 16 values of it. Loads of kAhead pieces are under way at once; they
// go by the second-level cache, since other multiprocessors may just have written the rows.
template <int kThreads, int kAhead, class RowOf, class Put>
__device__ __forceinline__ void quantize_pieces(int rows, int groups, int64_t inputs, int thread, const RowOf& row_of,
                                                const Put& put) {
  constexpr int kGroup = 128, kEach = 16, kLanes = kGroup / kEach, kStep = kThreads / kLanes;
  const int items = rows * groups, lane = thread % kLanes;
  const unsigned mask = ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
#pragma unroll 1
  for (int from = thread / kLanes; from < items; from += kAhead * kStep) {
    uint4 low[kAhead], high[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int i = from + j * kStep, column = i % groups * kGroup + lane * kEach;
      low[j] = high[j] = uint4{};
      if (i >= items || column >= inputs) continue;
      const auto* at = reinterpret_cast<const uint4*>(row_of(i / groups) + column);
      low[j] = __ldcg(at), high[j] = __ldcg(at + 1);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int i = from + j * kStep;
      if (i >= items) break;
      const float scale = scale_of<kLanes>(most_of(most_of(__floats2bfloat162_rn(0.f, 0.f), low[j]), high[j]), mask);
      put(i / groups, i % groups, lane, e4m3_of_16(low[j], high[j], scale, __frcp_rn(scale)), scale);
    }
  }
}

// The scales of all of an expert's weights: [outputs / 128][groups], paired of the second matrix behind them. They are
// under way when it returns.
template <class K>
__device__ __forceinline__ void take_weight_scales(const FewFp8Args& p, int expert, int thread, float* to) {
  const FewProduct& product = K::product(p);
  const bool shared = expert == p.experts;
  const FewWeights& weights = shared ? product.shared : product.weights;
  const int groups = K::groups(p), count = static_cast<int>(product.outputs) / kGroup * groups;
  const int64_t begin = shared ? 0 : expert * weights.expert_stride;
#pragma unroll 1
  for (int i = thread; i < (K::kPaired ? 2 : 1) * count; i += kWarpgroup) {
    const int at = i < count ? i : i - count, block = at / groups, group = at - block * groups;
    const float* from = (i < count ? weights.scale : weights.other_scale) + begin + block * weights.scale_stride;
    const bool there = group * kGroup < product.inputs;
    copy_ahead<4>(to + i, from + (there ? group : 0), there);
  }
}

// The run's rows of x, under way when it returns. By whole warps, whose lane r knows the token of row r.
template <class K>
__device__ __forceinline__ void copy_rows(const FewFp8Args& p, int rows, int token, int thread, const RowsBuffer& to) {
  constexpr int kChunks = kGroup / 16;
  const int groups = K::groups(p), there = static_cast<int>(p.up.inputs) / kGroup;
#pragma unroll 1
  for (int r = 0; r < rows; ++r) {
    const int64_t row = __shfl_sync(~0u, token, r);
    const unsigned char* from = static_cast<const unsigned char*>(p.x.data) + row * p.x.inputs;
    unsigned char* begin = to.rows + r * kGroup;
#pragma unroll 1
    for (int i = thread; i < groups * kChunks; i += kWarpgroup) {
      const int group = i / kChunks, chunk = i % kChunks;
      copy_ahead<16>(begin + group * (K::kRows * kGroup) + (chunk ^ r % 8) * 16, from + (group < there ? i * 16 : 0),
                     group < there);
    }
#pragma unroll 1
    for (int group = thread; group < groups; group += kWarpgroup) {
      copy_ahead<4>(to.scales + r * to.scale_stride + group,
                    p.x.scale + (group < there ? group : 0) * p.x.scale_stride + row, group < there);
    }
  }
}

// What gate and up gave for the run's pairs.
template <class K>
__device__ __forceinline__ void take_halves(const FewFp8Args& p, const FewRun& run, const int* pair, int thread,
                                            const RowsBuffer& to) {
  const auto* halves = static_cast<const Bf16*>(p.halves.data);
  // As many at once as the threads have of most runs' pieces.
  constexpr int kStage = K::kRows * K::kStageGroups * 8 / kWarpgroup, kAhead = kStage > 1 ? kStage : 1;
  quantize_pieces<kWarpgroup, kAhead>(
      run.rows, K::groups(p), p.down.inputs, thread, [&](int r) { return halves + pair[r] * p.halves.stride; },
      [&](int r, int group, int piece, const uint4& values, float scale) {
        *reinterpret_cast<uint4*>(to.rows + (group * K::kRows + r) * kGroup + (piece ^ r % 8) * 16) = values;
        if (piece == 0) to.scales[r * to.scale_stride + group] = scale;
      });
}

// Four warps: the rows of all runs that the block's items are of.
template <int kRows, int kDownTiles>
__device__ void prepare_rows(const FewFp8Args& p, const Block<kRows>& block, Units units, Turns buffers,
                             Turns down_buffers) {
  using DownK = Down<kRows, kDownTiles>;
  const int thread = static_cast<int>(threadIdx.x) - kPreparer;
  const int up_items = Up<kRows>::items(p), down_items = DownK::items(p);
  int held = -1;  // runs of the down products count from plan.runs on
  bool down = false;
  while (true) {
    const FewUnit unit = block.plan.unit(units.take());
    if (unit.count == 0) return;
    if (!unit.paired && !down) {
      down = true;
      if (down_buffers.count > buffers.count) {
        for (int i = 0; i < buffers.count; ++i, buffers.next()) buffers.wait_empty();  // the others lie there
        buffers = down_buffers;
      }
    }
    const int items = unit.paired ? up_items : down_items, end = unit.begin + unit.count;
    for (int run = unit.begin / items; run * items < end; ++run) {
      const int wanted = unit.paired ? run : block.plan.runs + run;
      if (wanted == held) continue;
      held = wanted;
      buffers.wait_empty();
      const FewRun taken = run_at<kRows>(p, block.lists, run);
      // Each warp for itself; all write the same.
      int* pair = block.pair[buffers.at];
      const int lane = thread % 32, mine = lane < taken.rows ? pair_at(p, block.lists, taken, lane) : 0;
      if (lane < taken.rows) pair[lane] = mine;
      __syncwarp();
      const RowsBuffer to = block.buffer(unit.paired, buffers.at);
      if (unit.paired) {
        take_weight_scales<Up<kRows>>(p, taken.expert, thread, to.weight_scales);
        const int token = taken.expert == p.experts ? taken.begin + lane : mine / p.k;
        copy_rows<Up<kRows>>(p, taken.rows, token, thread, to);
      } else {
        take_weight_scales<DownK>(p, taken.expert, thread, to.weight_scales);
        wait_for(p.counters + kRunsReady + run, up_items * (kWarpgroup / 32));
        take_halves<DownK>(p, taken, pair, thread, to);
      }
      block.run[buffers.at] = taken;
      copies_ahead_done();
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the tensor cores read the rows
      buffers.arrive(buffers.full);
      buffers.next();
    }
  }
}

}  // namespace hylas::cuda::few
