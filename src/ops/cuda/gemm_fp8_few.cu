// A block stays on its multiprocessor and goes through items, tiles of 64 rows of a weight for a run of rows: most of
// them its own, the last ones as it gets them, since some multiprocessors fetch faster than others. One thread keeps a
// ring of copies of weights going, from item to item without a break; a warpgroup lays the runs' rows ready, another
// one multiplies, both operands in shared memory.
#include <algorithm>

#include "ops/cuda/few_runs.cuh"
#include "ops/cuda/quantize.cuh"
#include "ops/cuda/wgmma.cuh"
#include "ops/fp8_plan.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

constexpr int kWarpgroup = 128;  // threads: the first ones multiply, the next prepare rows, one of the last copies
constexpr int kThreads = 2 * kWarpgroup + 32;
constexpr int kGroup = 128;  // inputs of a scale
constexpr int kGroupBytes = kFewTileRows * kGroup;
constexpr int kStageGroups = 4;  // groups of inputs of a stage of the ring
constexpr int kStageBytes = kStageGroups * kGroupBytes;
constexpr int kStagesMax = 6;
constexpr int kRowsBuffers = 2;
constexpr int kAlignment = 1024;  // of what is swizzled
constexpr int64_t kInputsMax = 4096;

template <bool paired_, int kRows_>
struct Kind {
  static constexpr bool kPaired = paired_;
  static constexpr int kRows = kRows_;  // of a run at most
  static constexpr int kTiles = kRows / 8;
  static constexpr int kOutputs = kPaired ? kFewTileRows / 2 : kFewTileRows;  // of an item
};

// Whole stages: groups of inputs behind the last count as zeros.
__host__ __device__ constexpr int groups_of(int64_t inputs) {
  return static_cast<int>((inputs / kGroup + kStageGroups - 1) / kStageGroups * kStageGroups);
}

// Shared memory behind its alignment: buffers of a run's rows [groups][kRows][128] and their scales [groups][kRows],
// lists of runs, then the ring.
struct Layout {
  int pairs;  // up to a multiple of 128
  int scales, buffer, experts, begins, ring;
  __host__ __device__ Layout(const FewFp8Args& args, int rows, int buffers)
      : pairs((static_cast<int>(args.tokens) * args.k + 127) / 128 * 128) {
    const int groups = groups_of(args.inputs);
    scales = groups * rows * kGroup;
    buffer = aligned(scales + groups * rows * static_cast<int>(sizeof(float)));
    experts = buffers * buffer;
    begins = experts + pairs * static_cast<int>(sizeof(uint16_t));
    ring = aligned(begins + (args.experts + 1) * static_cast<int>(sizeof(int)));
  }
  __host__ __device__ static int aligned(int bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
  int bytes(int stages) const { return kAlignment + ring + stages * kStageBytes; }
};

// What all threads of a block know.
template <class K>
struct Block {
  unsigned char* memory;
  Layout layout;
  RunLists lists;
  Shares shares;
  int tiles;
  FewRun* run;            // [kRowsBuffers] whose rows a buffer holds
  int (*pair)[K::kRows];  // the same
  __device__ unsigned char* stage(int i) const { return memory + layout.ring + i * kStageBytes; }
  __device__ unsigned char* rows(int i) const { return memory + i * layout.buffer; }
  __device__ float* scales(int i) const { return reinterpret_cast<float*>(rows(i) + layout.scales); }
};

template <class K>
__device__ __forceinline__ void copy_item(const FewFp8Args& p, const Block<K>& block, int expert, int tile,
                                          Turns& stages) {
  constexpr int kBoxGroups = K::kOutputs / 8;  // of 8 outputs
  const int groups = groups_of(p.inputs);
  const bool shared = expert == p.experts;
  const CUtensorMap* map = shared ? &p.shared.map : &p.weights.map;
  const int matrix = (shared ? 0 : expert) * (K::kPaired ? 2 : 1);
  for (int group = 0; group < groups; group += kStageGroups, stages.next()) {
    stages.wait_empty();
    barrier_arrive_expecting(stages.full + stages.at, kStageBytes);
    for (int i = 0; i < kStageGroups; ++i) {  // behind the last input the copy engine writes zeros
      copy_box(block.stage(stages.at) + i * kGroupBytes, map, (group + i) * kGroup, 0, matrix, tile * kBoxGroups,
               stages.full + stages.at);
    }
  }
}

// One thread: takes items for the block, and copies of all weights that they want, as the ring has room.
template <class K>
__device__ void copy_weights(const FewFp8Args& p, const Block<K>& block, Units units, Turns stages) {
  const Shares& shares = block.shares;
  int item = shares.begin(), end = item + shares.own, run = -1, expert = 0;
  while (true) {
    int more = item < end ? 0 : atomicAdd(p.counters, shares.unit);
    for (; item < end; ++item) {
      if (item + 1 == end) more = atomicAdd(p.counters, shares.unit);  // it comes while the last item is copied
      if (item / block.tiles != run) {
        run = item / block.tiles;
        expert = expert_of_run(p, block.lists, run);
      }
      copy_item<K>(p, block, expert, item % block.tiles, stages);
    }
    item = shares.rest() + more;
    end = min(item + shares.unit, shares.items);
    units.put(item < end ? item : -1);
    if (item >= end) break;
  }
  // The last block of all leaves the counters as it found them.
  if (atomicAdd(p.counters + 1, 1) == static_cast<int>(gridDim.x) - 1) p.counters[0] = p.counters[1] = 0;
}

// The run's rows in e4m3, where the tensor cores look for them, and their scales. A warpgroup.
template <class K>
__device__ void take_rows(const FewFp8Args& p, const FewRun& run, const int* pairs_of, unsigned char* rows,
                          float* scales) {
  constexpr int kEach = 16, kLanes = kGroup / kEach;  // values of a thread, threads of a group
  const int groups = groups_of(p.inputs), pairs = static_cast<int>(p.tokens) * p.k;
  const int items = run.rows * groups, lane = threadIdx.x % kLanes;
  const unsigned mask = ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
#pragma unroll 2
  for (int i = threadIdx.x % kWarpgroup / kLanes; i < items; i += kWarpgroup / kLanes) {
    const int r = i / groups, group = i % groups, pair = pairs_of[r];
    const int64_t row = p.by_pair ? pair : pair < pairs ? pair / p.k : pair - pairs;
    const auto* from = reinterpret_cast<const uint4*>(static_cast<const Bf16*>(p.x.data) + row * p.x.stride +
                                                      group * kGroup + lane * kEach);
    const bool there = group * kGroup < p.inputs;
    const uint4 low = there ? from[0] : uint4{}, high = there ? from[1] : uint4{};
    const float scale = scale_of<kLanes>(most_of(most_of(__floats2bfloat162_rn(0.f, 0.f), low), high), mask);
    *reinterpret_cast<uint4*>(rows + (group * K::kRows + r) * kGroup + (lane ^ r % 8) * kEach) =
        e4m3_of_16(low, high, scale, __frcp_rn(scale));
    if (lane == 0) scales[group * K::kRows + r] = scale;
  }
}

// A warpgroup: the rows of all runs that the block's items are of.
template <class K>
__device__ void prepare_rows(const FewFp8Args& p, const Block<K>& block, Units units, Turns buffers) {
  const Shares& shares = block.shares;
  int held = -1;
  for (int item = shares.begin(), end = item + shares.own;;) {
    while (item < end) {
      const int run = item / block.tiles;
      item = min(end, (run + 1) * block.tiles);
      if (run == held) continue;
      held = run;
      buffers.wait_empty();
      int* pair = block.pair[buffers.at];
      const FewRun taken = take_run<K::kRows>(p, block.lists, run, pair);
      take_rows<K>(p, taken, pair, block.rows(buffers.at), block.scales(buffers.at));
      block.run[buffers.at] = taken;
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the tensor cores read the rows
      buffers.arrive(buffers.full);
      buffers.next();
    }
    item = units.take();
    if (item < 0) return;
    end = min(item + shares.unit, shares.items);
  }
}

// What an item's rows of the weight are scaled by: for groups of inputs from `group` on, of both matrices.
struct Scales {
  float first[kStageGroups], second[kStageGroups];
};
template <class K>
__device__ __forceinline__ Scales weight_scales(const FewFp8Args& p, int expert, int output, int group) {
  const FewWeights& weights = expert == p.experts ? p.shared : p.weights;
  const int64_t at =
      (expert == p.experts ? 0 : expert) * weights.expert_stride + output / kGroup * weights.scale_stride + group;
  const int count = static_cast<int>(p.inputs) / kGroup - group;
  Scales scales;
#pragma unroll
  for (int i = 0; i < kStageGroups; ++i) {
    scales.first[i] = i < count ? weights.scale[at + i] : 0.f;
    scales.second[i] = !K::kPaired ? scales.first[i] : i < count ? weights.other_scale[at + i] : 0.f;
  }
  return scales;
}

// sum += scaled products of a stage's groups, in ascending order.
template <class K>
__device__ __forceinline__ void multiply_stage(const unsigned char* weight, const unsigned char* rows,
                                               const float* row_scales, const Scales& scales,
                                               float (&sum)[K::kTiles][4]) {
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
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kStageGroups; ++i) {
#pragma unroll
    for (int m = 0; m < K::kTiles; ++m) {
      const float2 of_row = *reinterpret_cast<const float2*>(row_scales + i * K::kRows + 8 * m + 2 * t);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float scale = (j < 2 ? scales.first[i] : scales.second[i]) * (j % 2 == 0 ? of_row.x : of_row.y);
        sum[m][j] = fmaf(scale, part[i][m][j], sum[m][j]);
      }
    }
  }
}

template <class K>
__device__ __forceinline__ void put(const FewFp8Args& p, const FewRun& run, const int* pair, int output,
                                    const float (&sum)[K::kTiles][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const bool in_order = (run.expert == p.experts ? p.shared : p.weights).other_is_gated;
#pragma unroll
  for (int m = 0; m < K::kTiles; ++m) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = 8 * m + 2 * t + j;
      if (row >= run.rows) continue;
      const int64_t at = pair[row] * p.out.stride + output + warp * (K::kPaired ? 8 : 16) + g;
      if constexpr (K::kPaired) {
        const float first = to_f32(from_f32<Bf16>(sum[m][j])), second = to_f32(from_f32<Bf16>(sum[m][2 + j]));
        const float value = in_order ? silu(first) * second : silu(second) * first;
        static_cast<Bf16*>(p.out.data)[at] = from_f32<Bf16>(value);
      } else {
        static_cast<float*>(p.out.data)[at] = sum[m][j];
        static_cast<float*>(p.out.data)[at + 8] = sum[m][2 + j];
      }
    }
  }
}

// A warpgroup.
template <class K>
__device__ void multiply_items(const FewFp8Args& p, const Block<K>& block, Units units, Turns buffers, Turns stages) {
  const int groups = groups_of(p.inputs);
  const Shares& shares = block.shares;
  int held = -1;
  for (int item = shares.begin(), end = item + shares.own;;) {
    for (; item < end; ++item) {
      if (item / block.tiles != held) {
        if (held >= 0) {
          buffers.arrive(buffers.empty);
          buffers.next();
        }
        held = item / block.tiles;
        buffers.wait_full();
      }
      const FewRun run = block.run[buffers.at];
      const unsigned char* rows = block.rows(buffers.at);
      const float* row_scales = block.scales(buffers.at);
      const int output = item % block.tiles * K::kOutputs;
      float sum[K::kTiles][4] = {};
      for (int group = 0; group < groups; group += kStageGroups, stages.next()) {
        const Scales scales = weight_scales<K>(p, run.expert, output, group);
        stages.wait_full();
        multiply_stage<K>(block.stage(stages.at), rows + group * K::kRows * kGroup, row_scales + group * K::kRows,
                          scales, sum);
        stages.arrive(stages.empty);
      }
      put<K>(p, run, block.pair[buffers.at], output, sum);
    }
    item = units.take();
    if (item < 0) return;
    end = min(item + shares.unit, shares.items);
  }
}

template <class K>
__global__ void __launch_bounds__(kThreads, 2)
    few_fp8_kernel(const __grid_constant__ FewFp8Args p, int tiles, int stages, int buffers) {
  extern __shared__ unsigned char anywhere[];
  __shared__ int unit_begin[kUnits], pair[kRowsBuffers][K::kRows];
  __shared__ FewRun run[kRowsBuffers];
  __shared__ uint64_t stage_full[kStagesMax], stage_empty[kStagesMax], unit_known[kUnits];
  __shared__ uint64_t rows_full[kRowsBuffers], rows_empty[kRowsBuffers];
  if (threadIdx.x == 0) {
    prefetch_map(&p.weights.map);
    if (p.with_shared) prefetch_map(&p.shared.map);
    for (int i = 0; i < kStagesMax; ++i) barrier_init(stage_full + i, 1), barrier_init(stage_empty + i, 4);
    for (int i = 0; i < kRowsBuffers; ++i) barrier_init(rows_full + i, 4), barrier_init(rows_empty + i, 4);
    for (int i = 0; i < kUnits; ++i) barrier_init(unit_known + i, 1);
    barriers_made();
  }
  if constexpr (K::kPaired) follow();
  unsigned char* memory = anywhere + (kAlignment - shared_address(anywhere) % kAlignment) % kAlignment;
  const Layout layout(p, K::kRows, buffers);
  const RunLists lists = {reinterpret_cast<int*>(memory + layout.begins),
                          reinterpret_cast<uint16_t*>(memory + layout.experts)};
  const int runs = find_runs<K::kRows, kThreads>(p, layout.pairs, lists);
  const Block<K> block = {memory, layout, lists, Shares(runs * tiles, K::kRows), tiles, run, pair};
  const Units units = {unit_begin, unit_known};
  const Turns of_stages = {stage_full, stage_empty, stages}, of_rows = {rows_full, rows_empty, buffers};
  if (threadIdx.x >= 2 * kWarpgroup) {
    if (threadIdx.x == 2 * kWarpgroup) copy_weights<K>(p, block, units, of_stages);
    if constexpr (!K::kPaired) follow();
    return;
  }
  if constexpr (!K::kPaired) follow();
  if (threadIdx.x >= kWarpgroup) {
    prepare_rows<K>(p, block, units, of_rows);
  } else {
    multiply_items<K>(p, block, units, of_rows, of_stages);
  }
}

// Rows of a run for so many rows of so many experts; hardly an expert has more.
int run_rows(int64_t pairs, int64_t experts) { return pairs <= 3 * experts ? 8 : kFewRows; }
int run_rows(const FewFp8Args& args) {
  return args.experts > 0 ? run_rows(args.tokens * args.k, args.experts) : run_rows(args.tokens, 1);
}

int64_t runs_max(int64_t pairs, int64_t experts, int64_t shared_pairs, int64_t rows) {
  return pairs / rows + std::min(pairs, experts) + (shared_pairs + rows - 1) / rows;
}

template <class K>
void launch(const FewFp8Args& args, Stream stream) {
  const int64_t pairs = args.tokens * args.k, tiles = args.outputs / K::kOutputs;
  const int64_t items = runs_max(pairs, args.experts, args.with_shared ? args.tokens : 0, K::kRows) * tiles;
  // Few tokens: half a multiprocessor's memory, so that the next kernel's blocks can be there and fetch what they may.
  constexpr int64_t kFewPairs = 16;
  constexpr int kStatic = 1024, kStagesEnough = 4;
  const auto bytes = [&](int stages, int buffers) { return Layout(args, K::kRows, buffers).bytes(stages); };
  int stages = pairs <= kFewPairs ? kStagesMax / 2 : kStagesMax, buffers = pairs <= kFewPairs ? 1 : kRowsBuffers;
  if (bytes(kStagesEnough, buffers) + kStatic > kFp8SharedBytesMax) buffers = 1;
  while (bytes(stages, buffers) + kStatic > kFp8SharedBytesMax) --stages;
  static SharedLimit limit;
  limit.raise(few_fp8_kernel<K>, static_cast<int>(kFp8SharedBytesMax) - kStatic, "moe (fp8, shared memory)");
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(items, kFp8Blocks));
  launch_following(few_fp8_kernel<K>, blocks, kThreads, static_cast<size_t>(bytes(stages, buffers)), stream,
                   "moe (fp8)", args, static_cast<int>(tiles), stages, buffers);
}

}  // namespace

bool few_fp8_takes(int64_t hidden, int64_t width, int64_t pairs) {
  constexpr int64_t kPairsMax = 8192;  // their experts are kept in shared memory
  return hidden % kGroup == 0 && width % kGroup == 0 && std::max(hidden, width) <= kInputsMax && pairs <= kPairsMax;
}

void few_fp8(const FewFp8Args& args, Stream stream) {
  if (args.tokens == 0) return;
  if (run_rows(args) <= 8) {
    args.paired ? launch<Kind<true, 8>>(args, stream) : launch<Kind<false, 8>>(args, stream);
  } else {
    args.paired ? launch<Kind<true, kFewRows>>(args, stream) : launch<Kind<false, kFewRows>>(args, stream);
  }
}

}  // namespace hylas::cuda
