// A block stays on its multiprocessor and goes through items, tiles of 64 rows of a weight for a run of rows, a few at
// a time as it gets them, since some multiprocessors fetch faster than others. Items of gate and up come first; those
// of the down products, whose weights are fetched meanwhile, follow in the same launch as their runs get ready. One
// thread keeps a ring of copies of weights going, from item to item without a break; four warps lay the runs' rows
// ready, a warpgroup multiplies, both operands in shared memory.
#include <algorithm>

#include "ops/cuda/few_rows.cuh"
#include "ops/cuda/route.h"
#include "ops/cuda/wgmma.cuh"
#include "ops/fp8_plan.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace few {
namespace {

// Of a stage's groups.
struct Four {
  float value[kStageGroups];
  __device__ explicit Four(const float* from) {
    const auto four = *reinterpret_cast<const float4*>(from);
    value[0] = four.x, value[1] = four.y, value[2] = four.z, value[3] = four.w;
  }
};

// sum += scaled products of a stage's groups, in ascending order.
template <class K>
__device__ __forceinline__ void multiply_stage(const unsigned char* weight, const unsigned char* rows,
                                               const float* row_scales, int scale_stride, const float* first_scales,
                                               const float* second_scales, float (&sum)[K::kTiles][4]) {
  float part[kStageGroups][K::kTiles][4];
  wgmma_begin();
#pragma unroll
  for (int i = 0; i < kStageGroups; ++i) {
#pragma unroll
    for (int k = 0; k < kGroup; k += 32) {
      wgmma_e4m3(part[i], wgmma_operand(weight + i * kGroupBytes + k), wgmma_operand(rows + i * K::kRows * kGroup + k),
                 k > 0);
    }
  }
  wgmma_commit();
  wgmma_wait();
#pragma unroll
  for (int i = 0; i < kStageGroups; ++i) wgmma_settle(part[i]);
  const int t = threadIdx.x % 4;
  const Four first(first_scales), second(second_scales);
#pragma unroll
  for (int m = 0; m < K::kTiles; ++m) {
    const Four of_row[2] = {Four(row_scales + (8 * m + 2 * t) * scale_stride),
                            Four(row_scales + (8 * m + 2 * t + 1) * scale_stride)};
#pragma unroll
    for (int i = 0; i < kStageGroups; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float scale = (j < 2 ? first.value[i] : second.value[i]) * of_row[j % 2].value[i];
        sum[m][j] = fmaf(scale, part[i][m][j], sum[m][j]);
      }
    }
  }
}

template <class K>
__device__ __forceinline__ void put(const FewFp8Args& p, const FewRun& run, const int* pair, int output,
                                    const float (&sum)[K::kTiles][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % kWarpgroup / 32, g = lane / 4, t = lane % 4;
  const bool in_order = (run.expert == p.experts ? p.up.shared : p.up.weights).other_is_gated;
#pragma unroll
  for (int m = 0; m < K::kTiles; ++m) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = 8 * m + 2 * t + j;
      if (row >= run.rows) continue;
      const View& out = K::kPaired ? p.halves : p.out;
      const int64_t at = pair[row] * out.stride + output + warp * (K::kPaired ? 8 : 16) + g;
      if constexpr (K::kPaired) {
        const float first = to_f32(from_f32<Bf16>(sum[m][j])), second = to_f32(from_f32<Bf16>(sum[m][2 + j]));
        const float value = in_order ? silu(first) * second : silu(second) * first;
        static_cast<Bf16*>(out.data)[at] = from_f32<Bf16>(value);
      } else {
        static_cast<float*>(out.data)[at] = sum[m][j];
        static_cast<float*>(out.data)[at + 8] = sum[m][2 + j];
      }
    }
  }
}

// Where the multiplying warpgroup is.
struct Position {
  Turns buffers, stages;
  int held = -1;   // run in the buffer
  int behind = 0;  // items of gate and up of the run that nobody has been told of
  __device__ void tell(int32_t* ready) {
    if (behind > 0) raise(ready + held, behind);
    behind = 0;
  }
  __device__ void hold(int run, int32_t* ready) {
    if (run == held) return;
    tell(ready);
    if (held >= 0) {
      buffers.arrive(buffers.empty);
      buffers.next();
    }
    held = run;
    buffers.wait_full();
  }
};

template <class K>
__device__ __forceinline__ void multiply_unit(const FewFp8Args& p, const Block<K::kRows>& block, const FewUnit& unit,
                                              Position& position) {
  const int tiles = K::tiles(p), groups = groups_of(K::product(p).inputs), scale_stride = block.layout.scale_stride;
  int32_t* ready = p.counters + kRunsReady;
  for (int item = unit.begin; item < unit.begin + unit.count; ++item) {
    position.hold(item / tiles + (K::kPaired ? 0 : block.plan.runs), ready);
    const int buffer = position.buffers.at, output = item % tiles * K::kOutputs;
    const FewRun run = block.run[buffer];
    const float* first = block.weight_scales(buffer) + output / kGroup * groups;
    const float* second = K::kPaired ? first + Layout::scales_of(p.up) : first;
    float sum[K::kTiles][4] = {};
    for (int group = 0; group < groups; group += kStageGroups, position.stages.next()) {
      position.stages.wait_full();
      multiply_stage<K>(block.stage(position.stages.at), block.rows(buffer) + group * K::kRows * kGroup,
                        block.scales(buffer) + group, scale_stride, first + group, second + group, sum);
      position.stages.arrive(position.stages.empty);
    }
    put<K>(p, run, block.pair[buffer], output, sum);
    if (K::kPaired) ++position.behind;
  }
  position.tell(ready);
}

template <int kRows>
__device__ void multiply_items(const FewFp8Args& p, const Block<kRows>& block, Units units, Position position) {
  while (true) {
    const FewUnit unit = block.plan.unit(units.take());
    if (unit.count == 0) return;
    if (unit.paired) {
      multiply_unit<Kind<true, kRows>>(p, block, unit, position);
    } else {
      multiply_unit<Kind<false, kRows>>(p, block, unit, position);
    }
  }
}

// By the warps that have waited for others: the last block of all leaves the counters as it found them.
__device__ void leave_counters(const FewFp8Args& p, int runs) {
  asm volatile("bar.sync 1, %0;" ::"n"(kWarpgroup) : "memory");
  if (threadIdx.x / 32 != kPreparer / 32) return;
  int before = 0;
  if (threadIdx.x % 32 == 0) before = atomicAdd(p.counters + kDone, 1);
  if (__shfl_sync(~0u, before, 0) != static_cast<int>(gridDim.x) - 1) return;
  for (int i = threadIdx.x % 32; i < kRunsReady + runs; i += 32) p.counters[i] = 0;
}

// Items of a unit, so that a block has about `per` units if there are enough.
__device__ int unit_items(int items, int per) {
  constexpr int kMost = 8;
  int count = 1;
  while (count < kMost && 2 * count * per * static_cast<int>(gridDim.x) <= items) count *= 2;
  return count;
}

// Many items in a unit want few runs laid ready, few items let the blocks end together. What comes behind gate and up
// does not wait for the last of these.
template <int kRows>
__device__ FewPlan plan_of(const FewFp8Args& p, int runs) {
  constexpr int kUpUnits = 2, kDownUnits = 1, kFew = 4, kEighths = 7;
  const int up_items = runs * Kind<true, kRows>::tiles(p), down_items = runs * Kind<false, kRows>::tiles(p);
  const int up = unit_items(up_items, kUpUnits), down = unit_items(down_items, kDownUnits);
  return {FewShares(up_items, up, up, 8), FewShares(down_items, down, min(down, kFew), kEighths), runs};
}

// Stages of the ring, of which so many are under way, and what else the layout depends on.
struct Launch {
  int stages, ahead, buffers, runs_max;
  bool most_have_rows;  // experts, by their number
};

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    few_fp8_kernel(const __grid_constant__ FewFp8Args p, const Launch launch) {
  extern __shared__ unsigned char anywhere[];
  __shared__ int unit_number[kUnits], pair[kRowsBuffers][kRows], runs[2];
  __shared__ FewRun run[kRowsBuffers];
  __shared__ uint64_t stage_full[kStagesMax], stage_empty[kStagesMax], unit_known[kUnits];
  __shared__ uint64_t rows_full[kRowsBuffers], rows_empty[kRowsBuffers];
  if (threadIdx.x == kCopier) {
    for (const FewProduct* product : {&p.up, &p.down}) {
      if (p.experts > 0) prefetch_map(&product->weights.map);
      if (p.with_shared) prefetch_map(&product->shared.map);
    }
    for (int i = 0; i < kStagesMax; ++i) barrier_init(stage_full + i, 1), barrier_init(stage_empty + i, 4);
    for (int i = 0; i < kRowsBuffers; ++i) barrier_init(rows_full + i, 4), barrier_init(rows_empty + i, 4);
    for (int i = 0; i < kUnits; ++i) barrier_init(unit_known + i, 1);
    barriers_made();
    if (launch.most_have_rows) prefetch_first<Kind<true, kRows>>(p);
  }
  follow();
  int taken = 0;
  if (threadIdx.x == kCopier) taken = atomicAdd(p.counters + kTaken, 1);
  unsigned char* memory = anywhere + (kAlignment - shared_address(anywhere) % kAlignment) % kAlignment;
  const Layout layout(p, kRows, launch.buffers, launch.runs_max);
  const RunLists lists = {reinterpret_cast<int*>(memory + layout.count), reinterpret_cast<FewRun*>(memory + layout.run),
                          reinterpret_cast<uint16_t*>(memory + layout.pair),
                          reinterpret_cast<int*>(memory + layout.ring), runs};
  find_runs<kRows, kThreads>(p, lists);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the ring lies where the lists were made
  __syncthreads();
  const Block<kRows> block = {memory, layout, lists, plan_of<kRows>(p, runs[1]), run, pair};
  const Units units = {unit_number, unit_known};
  const Turns of_stages = {stage_full, stage_empty, launch.stages}, of_rows = {rows_full, rows_empty, launch.buffers};
  if (threadIdx.x >= kPreparer) {
    prepare_rows(p, block, units, of_rows);
    leave_counters(p, runs[1]);
  } else if (threadIdx.x >= kCopier) {
    if (threadIdx.x == kCopier) copy_weights(p, block, taken, units, Copies{of_stages, of_stages, launch.ahead});
  } else {
    multiply_items(p, block, units, Position{of_rows, of_stages});
  }
}

// Rows of a run for so many rows of so many experts; hardly an expert has more.
int run_rows(int64_t pairs, int64_t experts) { return pairs <= 3 * experts ? 8 : kFewRows; }
int run_rows(const FewFp8Args& args) {
  return args.experts > 0 ? run_rows(args.tokens * args.k, args.experts) : run_rows(args.tokens, 1);
}

// But those of the shared expert.
int64_t runs_max(const FewFp8Args& args, int64_t rows) {
  const int64_t pairs = args.tokens * args.k;
  return pairs / rows + std::min<int64_t>(pairs, args.experts);
}

template <int kRows>
void launch(const FewFp8Args& args, Stream stream) {
  constexpr int kStatic = 1024, kStagesEnough = 4, kAhead = 2;
  const int runs = static_cast<int>(runs_max(args, kRows));
  const auto bytes = [&](int stages, int buffers) { return Layout(args, kRows, buffers, runs).bytes(stages); };
  int stages = kStagesMax, buffers = kRowsBuffers;
  if (bytes(kStagesEnough, buffers) + kStatic > kFp8SharedBytesMax) buffers = 1;
  while (bytes(stages, buffers) + kStatic > kFp8SharedBytesMax) --stages;
  constexpr int kPairsEach = 2;
  const bool most_have_rows = args.tokens * args.k >= kPairsEach * args.experts;
  static SharedLimit limit;
  limit.raise(few_fp8_kernel<kRows>, static_cast<int>(kFp8SharedBytesMax) - kStatic, "moe (fp8, shared memory)");
  launch_following(few_fp8_kernel<kRows>, kFp8Blocks, kThreads, static_cast<size_t>(bytes(stages, buffers)), stream,
                   "moe (fp8)", args, Launch{stages, kAhead, buffers, runs, most_have_rows});
}

}  // namespace
}  // namespace few

bool few_fp8_takes(int64_t hidden, int64_t width, int64_t pairs) {
  constexpr int64_t kInputsMax = 4096, kPairsMax = 8192;  // they are listed in shared memory
  static_assert(kPairsMax / 8 + kExpertsMax + kPairsMax / 8 + few::kRunsReady <= kFewCounters);
  return hidden % few::kGroup == 0 && width % few::kGroup == 0 && std::max(hidden, width) <= kInputsMax &&
         pairs <= kPairsMax;
}

void few_fp8(const FewFp8Args& args, Stream stream) {
  if (args.tokens == 0) return;
  few::run_rows(args) > 8 ? few::launch<kFewRows>(args, stream) : few::launch<8>(args, stream);
}

}  // namespace hylas::cuda
