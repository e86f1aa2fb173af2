#pragma once
// The rows of a run in e4m3, where the tensor cores of gemm_fp8_few.cu look for them, and its scales.
#include "ops/cuda/copy_ahead.cuh"
#include "ops/cuda/few_block.cuh"
#include "ops/cuda/quantize.cuh"

namespace hylas::cuda::few {

// Quantizes `rows` rows of `groups` groups of 128 values, those behind the last input zeros: row_of(r) is where row r
// begins, put(r, group, lane, values, scale) gets 16 values of it. Loads of several pieces are under way at once; they
// go by the second-level cache, since other multiprocessors may just have written the rows.
template <int kThreads, class RowOf, class Put>
__device__ __forceinline__ void quantize_pieces(int rows, int groups, int64_t inputs, int thread, const RowOf& row_of,
                                                const Put& put) {
  constexpr int kGroup = 128, kEach = 16, kLanes = kGroup / kEach;
  constexpr int kAhead = 4, kStep = kThreads / kLanes;
  const int items = rows * groups, lane = thread % kLanes;
  const unsigned mask = ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
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
__device__ __forceinline__ void take_weight_scales(const FewProduct& product, bool paired, bool shared, int expert,
                                                   int thread, float* to) {
  const FewWeights& weights = shared ? product.shared : product.weights;
  const int groups = groups_of(product.inputs), count = Layout::scales_of(product);
  const int64_t begin = shared ? 0 : expert * weights.expert_stride;
  for (int i = thread; i < (paired ? 2 : 1) * count; i += kWarpgroup) {
    const int at = i < count ? i : i - count, group = at % groups;
    const float* from = (i < count ? weights.scale : weights.other_scale) + begin + at / groups * weights.scale_stride;
    const bool there = group * kGroup < product.inputs;
    copy_ahead<4>(to + i, from + (there ? group : 0), there);
  }
}

// The run's rows of x, under way when it returns.
template <int kRows>
__device__ __forceinline__ void copy_rows(const FewFp8Args& p, const FewRun& run, const int* pair, int thread,
                                          const Block<kRows>& block, int buffer) {
  constexpr int kPieces = kGroup / 16;
  const int groups = groups_of(p.up.inputs), there = static_cast<int>(p.up.inputs) / kGroup;
  const bool shared = run.expert == p.experts;
  const auto token_of = [&](int r) { return shared ? run.begin + r : pair[r] / p.k; };
  const auto* x = static_cast<const unsigned char*>(p.x.data);
  for (int i = thread; i < groups * kPieces; i += kWarpgroup) {
    const int group = i / kPieces, piece = i % kPieces;
    const int64_t column = group < there ? i * 16 : 0;
    for (int r = 0; r < run.rows; ++r) {
      copy_ahead<16>(block.rows(buffer) + (group * kRows + r) * kGroup + (piece ^ r % 8) * 16,
                     x + token_of(r) * p.x.inputs + column, group < there);
    }
  }
  for (int i = thread; i < run.rows * groups; i += kWarpgroup) {
    const int r = i / groups, group = i % groups;
    copy_ahead<4>(block.scales(buffer) + r * block.layout.scale_stride + group,
                  p.x.scale + (group < there ? group : 0) * p.x.scale_stride + token_of(r), group < there);
  }
}

// What gate and up gave for the run's pairs.
template <int kRows>
__device__ __forceinline__ void take_halves(const FewFp8Args& p, const FewRun& run, const int* pair, int thread,
                                            const Block<kRows>& block, int buffer) {
  const auto* halves = static_cast<const Bf16*>(p.halves.data);
  unsigned char* rows = block.rows(buffer);
  float* scales = block.scales(buffer);
  const int stride = block.layout.scale_stride;
  quantize_pieces<kWarpgroup>(
      run.rows, groups_of(p.down.inputs), p.down.inputs, thread,
      [&](int r) { return halves + pair[r] * p.halves.stride; },
      [&](int r, int group, int piece, const uint4& values, float scale) {
        *reinterpret_cast<uint4*>(rows + (group * kRows + r) * kGroup + (piece ^ r % 8) * 16) = values;
        if (piece == 0) scales[r * stride + group] = scale;
      });
}

// Four warps: the rows of all runs that the block's items are of.
template <int kRows>
__device__ void prepare_rows(const FewFp8Args& p, const Block<kRows>& block, Units units, Turns buffers) {
  const int thread = static_cast<int>(threadIdx.x) - kPreparer;
  const int up_tiles = Kind<true, kRows>::tiles(p), down_tiles = Kind<false, kRows>::tiles(p);
  int held = -1;  // runs of the down products count from plan.runs on
  while (true) {
    const FewUnit unit = block.plan.unit(units.take());
    if (unit.count == 0) return;
    const int tiles = unit.paired ? up_tiles : down_tiles, end = unit.begin + unit.count;
    for (int run = unit.begin / tiles; run * tiles < end; ++run) {
      const int wanted = unit.paired ? run : block.plan.runs + run;
      if (wanted == held) continue;
      held = wanted;
      buffers.wait_empty();
      const FewRun taken = run_at<kRows>(p, block.lists, run);
      int* pair = block.pair[buffers.at];
      // Each warp for itself; all write the same.
      if (thread % 32 < taken.rows) pair[thread % 32] = pair_at(p, block.lists, taken, thread % 32);
      __syncwarp();
      take_weight_scales(unit.paired ? p.up : p.down, unit.paired, taken.expert == p.experts, taken.expert, thread,
                         block.weight_scales(buffers.at));
      if (unit.paired) {
        copy_rows<kRows>(p, taken, pair, thread, block, buffers.at);
      } else {
        wait_for(p.counters + kRunsReady + run, up_tiles * (kWarpgroup / 32));
        take_halves<kRows>(p, taken, pair, thread, block, buffers.at);
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
