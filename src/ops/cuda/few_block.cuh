#pragma once
// What a block of gemm_fp8_few.cu has in shared memory and how its warps pass it on; the copies of weights.
#include "ops/cuda/few_runs.cuh"

namespace hylas::cuda::few {

// Threads: a warpgroup multiplies, one of the next warp copies, the others prepare rows.
constexpr int kWarpgroup = 128;
constexpr int kCopier = kWarpgroup, kPreparer = kCopier + 32, kThreads = kPreparer + kWarpgroup;
constexpr int kGroup = 128;      // inputs of a scale
constexpr int kStageGroups = 4;  // groups of inputs of a stage of the ring
constexpr int kGroupBytes = kFewTileRows * kGroup, kStageBytes = kStageGroups * kGroupBytes;
constexpr int kStagesMax = 6;
constexpr int kRowsBuffers = 2;
constexpr int kAlignment = 1024;  // of what is swizzled

template <bool paired, int rows>
struct Kind {
  static constexpr bool kPaired = paired;
  static constexpr int kRows = rows;  // of a run at most
  static constexpr int kTiles = rows / 8;
  static constexpr int kOutputs = kPaired ? kFewTileRows / 2 : kFewTileRows;  // of an item
  __device__ static const FewProduct& product(const FewFp8Args& p) { return kPaired ? p.up : p.down; }
  __device__ static int tiles(const FewFp8Args& p) { return static_cast<int>(product(p).outputs) / kOutputs; }
};

// Whole stages: groups of inputs behind the last count as zeros.
__host__ __device__ constexpr int groups_of(int64_t inputs) {
  return static_cast<int>((inputs / kGroup + kStageGroups - 1) / kStageGroups * kStageGroups);
}

// Shared memory behind its alignment: buffers of a run's rows [groups][kRows][128], their scales [kRows][scale_stride]
// and those of its expert's weights, lists of runs, then the ring.
struct Layout {
  int scale_stride;  // whole pieces of 16 bytes, which do not meet in the same banks
  int scales, weight_scales, buffer, run, pair, count, ring;
  __host__ __device__ Layout(const FewFp8Args& args, int rows, int buffers, int runs_max) {
    constexpr int kFloat = sizeof(float);
    const int groups = groups_of(args.up.inputs > args.down.inputs ? args.up.inputs : args.down.inputs);
    const int up_scales = 2 * scales_of(args.up), down_scales = scales_of(args.down);
    scale_stride = groups + 4;
    scales = groups * rows * kGroup;
    weight_scales = scales + rows * scale_stride * kFloat;
    buffer = aligned(weight_scales + (up_scales > down_scales ? up_scales : down_scales) * kFloat);
    run = buffers * buffer;
    count = run + runs_max * static_cast<int>(sizeof(FewRun));
    pair = count + args.experts * static_cast<int>(sizeof(int));
    ring = aligned(pair + static_cast<int>(args.tokens) * args.k * static_cast<int>(sizeof(uint16_t)));
  }
  __host__ __device__ static int aligned(int bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
  // Of one matrix, for whole stages.
  __host__ __device__ static int scales_of(const FewProduct& product) {
    return static_cast<int>(product.outputs / kGroup) * groups_of(product.inputs);
  }
  int bytes(int stages) const { return kAlignment + ring + stages * kStageBytes; }
};

// Of p.counters.
enum Counter {
  kTaken,     // units
  kDone,      // blocks
  kRunsReady  // from here on warps' items of gate and up, by run
};

// Until `counter` has come to `wanted`: what was written before it was counted is there. By all lanes of a warp.
__device__ __forceinline__ void wait_for(const int32_t* counter, int wanted) {
  if (threadIdx.x % 32 == 0) {
    int32_t found = 0;
    do {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(found) : "l"(counter) : "memory");
    } while (found < wanted);
  }
  __syncwarp();
}
// What the warp has written is there for whoever finds the counter raised.
__device__ __forceinline__ void raise(int32_t* counter, int by) {
  __syncwarp();
  if (threadIdx.x % 32 != 0) return;
  __threadfence();
  atomicAdd(counter, by);
}

// Units on their way from the thread that copies to the others. It is never further ahead than by one for each stage of
// its ring of copies and two more, fewer than kUnits, so a place is free when its turn comes.
constexpr int kUnits = 16;
struct Units {
  int* number;  // [kUnits]
  uint64_t* known;
  int at = 0;
  uint32_t round = 0;
  __device__ void put(int unit) {
    number[at] = unit;
    barrier_arrive(known + at);
    next();
  }
  __device__ int take() {
    barrier_wait(known + at, round);
    const int unit = number[at];
    next();
    return unit;
  }
  __device__ void next() {
    if (++at < kUnits) return;
    at = 0;
    round ^= 1;
  }
};

// What all threads of a block know.
template <int kRows>
struct Block {
  unsigned char* memory;
  Layout layout;
  RunLists lists;
  FewPlan plan;
  FewRun* run;         // [kRowsBuffers] whose rows a buffer holds
  int (*pair)[kRows];  // the same
  __device__ unsigned char* stage(int i) const { return memory + layout.ring + i * kStageBytes; }
  __device__ unsigned char* rows(int i) const { return memory + i * layout.buffer; }
  __device__ float* scales(int i) const { return reinterpret_cast<float*>(rows(i) + layout.scales); }
  __device__ float* weight_scales(int i) const { return reinterpret_cast<float*>(rows(i) + layout.weight_scales); }
};

// Copies under way: with more of them than memory can serve at once everything else would wait behind them.
struct Copies {
  Turns stages, landed;
  int ahead;  // so many stages under way at most
  int begun = 0;
  uint64_t once = read_once();  // experts' weights; the shared expert's are read for every run of tokens
  __device__ uint64_t* begin(uint32_t bytes) {
    if (begun < ahead) {
      ++begun;
    } else {
      landed.wait_full();
      landed.next();
    }
    stages.wait_empty();
    barrier_arrive_expecting(stages.full + stages.at, bytes);
    return stages.full + stages.at;
  }
};

template <class K>
__device__ __forceinline__ void copy_item(const FewFp8Args& p, const Block<K::kRows>& block, int expert, int tile,
                                          Copies& copies) {
  constexpr int kBoxGroups = K::kOutputs / 8;  // of 8 outputs
  const FewProduct& product = K::product(p);
  const int groups = groups_of(product.inputs);
  const bool shared = expert == p.experts;
  const CUtensorMap* map = shared ? &product.shared.map : &product.weights.map;
  const int matrix = (shared ? 0 : expert) * (K::kPaired ? 2 : 1);
  for (int group = 0; group < groups; group += kStageGroups) {
    uint64_t* full = copies.begin(kStageBytes);
    unsigned char* stage = block.stage(copies.stages.at);
    for (int i = 0; i < kStageGroups; ++i) {  // behind the last input the copy engine writes zeros
      unsigned char* to = stage + i * kGroupBytes;
      if (shared) {
        copy_box(to, map, (group + i) * kGroup, 0, matrix, tile * kBoxGroups, full);
      } else {
        copy_box_once(to, map, (group + i) * kGroup, 0, matrix, tile * kBoxGroups, full, copies.once);
      }
    }
    copies.stages.next();
  }
}

// Answers the next unit, which the others know, too, before the last item is copied: rows take as long to be laid
// ready.
template <class K>
__device__ __forceinline__ int copy_unit(const FewFp8Args& p, const Block<K::kRows>& block, const FewUnit& unit,
                                         Units& units, Copies& copies) {
  const int tiles = K::tiles(p), end = unit.begin + unit.count, asked = max(unit.begin, end - 2);
  int run = -1, expert = 0, next = 0;
  for (int item = unit.begin; item < end; ++item) {
    if (item == asked) next = atomicAdd(p.counters + kTaken, 1);  // it comes while this item is copied
    if (item / tiles != run) {
      run = item / tiles;
      expert = run_at<K::kRows>(p, block.lists, run).expert;
    }
    copy_item<K>(p, block, expert, item % tiles, copies);
    if (item == asked) units.put(next);
  }
  return next;
}

// One thread: takes units for the block, and copies of all weights that they want, as the ring has room.
template <int kRows>
__device__ void copy_weights(const FewFp8Args& p, const Block<kRows>& block, int taken, Units units, Copies copies) {
  units.put(taken);
  while (true) {
    const FewUnit unit = block.plan.unit(taken);
    if (unit.count == 0) return;
    taken = unit.paired ? copy_unit<Kind<true, kRows>>(p, block, unit, units, copies)
                        : copy_unit<Kind<false, kRows>>(p, block, unit, units, copies);
  }
}

// One thread: to the second-level cache an item that the first units probably begin with, as long as nobody knows the
// rows: all of the shared expert's, then of each expert the first and that in the middle, where units begin if there
// are many items. Most experts have some rows, so a run's place is about its expert's number. One item for each block
// is what memory can bring until the runs are found.
template <class K>
__device__ void prefetch_first(const FewFp8Args& p) {
  const int tiles = K::tiles(p), number = static_cast<int>(blockIdx.x) - (p.with_shared ? tiles : 0);
  const int expert = number / 2, tile = number < 0 ? static_cast<int>(blockIdx.x) : number % 2 * (tiles / 2);
  if (number >= 0 && expert >= p.experts) return;
  const CUtensorMap* map = number < 0 ? &p.up.shared.map : &p.up.weights.map;
  for (int group = 0; group * kGroup < p.up.inputs; ++group) {
    prefetch_box(map, group * kGroup, 0, number < 0 ? 0 : 2 * expert, tile * K::kOutputs / 8);
  }
}

}  // namespace hylas::cuda::few
