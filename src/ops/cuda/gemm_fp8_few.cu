// A block stays on its multiprocessor and goes through items, tiles of outputs of a run of rows; all blocks have as
// many. One warp keeps a ring of copies of weights going, from item to item without a break; eight multiply. Each of
// them has 16 rows of the weight and 256 inputs, those of the run's rows in registers; their sums meet in shared
// memory.
#include <algorithm>

#include "ops/cuda/bulk_copy.cuh"
#include "ops/cuda/few_runs.cuh"
#include "ops/cuda/mma.cuh"
#include "ops/cuda/quantize.cuh"
#include "ops/fp8_plan.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8;  // that multiply
constexpr int kThreads = 32 * (kWarps + 1);
constexpr int kGroup = 128;         // inputs of a scale
constexpr int kSlice = 2 * kGroup;  // inputs of a warp in a step
constexpr int kStagesMax = 6;
constexpr int64_t kInputsMax = 2 * kWarps * kSlice;

// What a stage of the ring holds: for each of `groups` two pieces of 8 weight rows (paired: one of each matrix), apart
// such that a warp's reads meet no bank twice.
struct Stage {
  int slices;  // warps that share the inputs
  int groups;  // of 16 weight rows
  int depth;   // inputs of a step
  int row;     // bytes from a weight's row to the next
  __host__ __device__ explicit Stage(int64_t inputs)
      : slices(inputs <= kSlice       ? 1
               : inputs <= 2 * kSlice ? 2
               : inputs <= 4 * kSlice ? 4
                                      : 8),
        groups(kWarps / slices),
        depth(slices * kSlice),
        row(static_cast<int>(inputs < depth ? inputs : depth)) {}
  __host__ __device__ int piece(int i) const { return i / 2 * (16 * row + 128) + i % 2 * (8 * row + 64); }
  __host__ __device__ int bytes() const { return piece(2 * groups); }
};

template <bool paired_, int kRows_, int kSteps_>
struct Kind {
  static constexpr bool kPaired = paired_;
  static constexpr int kRows = kRows_;    // of a run at most
  static constexpr int kSteps = kSteps_;  // of an item
  static constexpr int kTiles = kRows / 8;
  static constexpr int kOutputs = kPaired ? 8 : 16;  // of a group
};

// [item's parity][warp][weight row][row of the run]
template <class K>
using Sums = float[2][kWarps][16][K::kRows];

struct Ring {
  unsigned char* memory;
  uint64_t* full;
  uint64_t* empty;
  int stages;
  int bytes;  // of a stage
  int at = 0;
  uint32_t round = 0;
  __device__ unsigned char* stage() const { return memory + at * bytes; }
  __device__ void next() {
    if (++at < stages) return;
    at = 0;
    round ^= 1;
  }
};

__device__ __forceinline__ WeightView weight_of(const FewFp8Args& p, int expert, bool other) {
  if (expert == p.experts) return other ? p.shared_other : p.shared;
  return other ? p.others[expert] : p.weights[expert];
}

// One warp: copies of all weights that the block's items want, as the ring has room.
template <class K>
__device__ void copy_weights(const FewFp8Args& p, const BlockRuns& block, int tiles, const Stage& shape, Ring ring) {
  const int lane = threadIdx.x % 32, pieces = 2 * shape.groups;
  for (int item = block.begin; item < block.end; ++item) {
    const int expert = block.run[item / tiles - block.first].expert;
    const WeightView first = weight_of(p, expert, false), second = K::kPaired ? weight_of(p, expert, true) : first;
    const int output = item % tiles * shape.groups * K::kOutputs;
    const bool whole = first.stride == p.inputs && K::kSteps == 1;
    for (int step = 0; step < K::kSteps; ++step, ring.next()) {
      const int k = step * shape.depth, row_bytes = min(shape.depth, static_cast<int>(p.inputs) - k);
      if (lane == 0) {
        barrier_wait(ring.empty + ring.at, ring.round ^ 1);
        barrier_arrive_expecting(ring.full + ring.at, pieces * 8 * row_bytes);
      }
      __syncwarp();
      for (int i = lane; i < (whole ? pieces : 8 * pieces); i += 32) {
        const int piece = whole ? i : i / 8, row = whole ? 0 : i % 8;
        const WeightView& weight = piece % 2 == 1 ? second : first;
        const int64_t from = output + (K::kPaired ? piece / 2 : piece) * 8 + row;
        copy_bulk(ring.stage() + shape.piece(piece) + row * shape.row,
                  static_cast<const unsigned char*>(weight.data) + from * weight.stride + k,
                  whole ? 8 * row_bytes : row_bytes, ring.full + ring.at);
      }
    }
  }
}

// A warp's inputs of the run's rows in e4m3, as the tensor cores want them: lane 4 g + t has 16 t .. 16 t + 15 and 64
// further on of each 128, of rows g and g + 8.
template <class K>
struct Rows {
  uint4 chunk[K::kSteps][2][K::kTiles][2];
  float scale[K::kSteps][2][K::kTiles][2];  // of rows 2 t and 2 t + 1
};

// 128 inputs of a row, by the four lanes of the row; all lanes of the warp come. Answers the scale.
__device__ __forceinline__ float quantize_group(const Bf16* from, bool there, uint4 (&chunk)[2]) {
  uint4 value[2][2] = {};
  if (there) {
#pragma unroll
    for (int i = 0; i < 4; ++i) value[i / 2][i % 2] = *reinterpret_cast<const uint4*>(from + i / 2 * 64 + i % 2 * 8);
  }
  __nv_bfloat162 each = most_of(most_of(__floats2bfloat162_rn(0.f, 0.f), value[0][0]), value[0][1]);
  each = most_of(most_of(each, value[1][0]), value[1][1]);
  const float scale = scale_of<4>(each, ~0u), reciprocal = __frcp_rn(scale);
#pragma unroll
  for (int half = 0; half < 2; ++half) chunk[half] = e4m3_of_16(value[half][0], value[half][1], scale, reciprocal);
  return scale;
}

template <class K>
__device__ __forceinline__ void take_rows(const FewFp8Args& p, const BlockRuns& block, int run, int slice, int depth,
                                          Rows<K>& rows) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int there = block.run[run].end - block.run[run].begin, pairs = static_cast<int>(p.tokens) * p.k;
#pragma unroll
  for (int m = 0; m < K::kTiles; ++m) {
    const bool mine = g + 8 * m < there;
    const int pair = mine ? block.pair[run][g + 8 * m] : 0;
    const int64_t row = p.by_pair ? pair : pair < pairs ? pair / p.k : pair - pairs;
    const Bf16* x = static_cast<const Bf16*>(p.x.data) + row * p.x.stride + slice * kSlice + 16 * t;
#pragma unroll
    for (int i = 0; i < 2 * K::kSteps; ++i) {
      const int k = i / 2 * depth + i % 2 * kGroup;
      const bool inside = k + slice * kSlice < p.inputs;
      const float scale = quantize_group(x + k, mine && inside, rows.chunk[i / 2][i % 2][m]);
      rows.scale[i / 2][i % 2][m][0] = __shfl_sync(~0u, scale, 8 * t);
      rows.scale[i / 2][i % 2][m][1] = __shfl_sync(~0u, scale, 8 * t + 4);
    }
  }
}

// sum += scaled products of a warp's weights of a step with the run's rows. Row r of the tensor cores' 16 is row r / 2
// of piece r % 2.
template <class K>
__device__ __forceinline__ void multiply_group(const unsigned char* weight, int row, float weight_scale,
                                               const uint4 (&x)[K::kTiles][2], const float (&scale)[K::kTiles][2],
                                               float (&sum)[K::kTiles][4]) {
  float part[K::kTiles][4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = *reinterpret_cast<const uint4*>(weight + half * 64);
    const uint4 high = *reinterpret_cast<const uint4*>(weight + half * 64 + 4 * row);
#pragma unroll
    for (int m = 0; m < K::kTiles; ++m) {
      mma_e4m3(part[m], low.x, high.x, low.y, high.y, x[m][half].x, x[m][half].y);
      mma_e4m3(part[m], low.z, high.z, low.w, high.w, x[m][half].z, x[m][half].w);
    }
  }
#pragma unroll
  for (int m = 0; m < K::kTiles; ++m) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sum[m][j] = fmaf(weight_scale * scale[m][j % 2], part[m][j], sum[m][j]);
  }
}

// The slices' sums of one place, in ascending order.
template <class K>
__device__ __forceinline__ float total(const Sums<K>& sums, int item, int warp, int slices, int weight_row, int row) {
  float sum = sums[item % 2][warp][weight_row][row];
  for (int s = 1; s < slices; ++s) sum += sums[item % 2][warp + s][weight_row][row];
  return sum;
}

template <class K>
__device__ void put(const FewFp8Args& p, const BlockRuns& block, int run, const Stage& shape, int item, int64_t output,
                    const Sums<K>& sums) {
  const int columns = shape.groups * K::kOutputs, values = columns * (block.run[run].end - block.run[run].begin);
  for (int i = threadIdx.x; i < values; i += 32 * kWarps) {
    const int row = i / columns, column = i % columns, warp = column / K::kOutputs * shape.slices;
    const int c = column % K::kOutputs;
    const int64_t at = block.pair[run][row] * p.out.stride + output + column;
    if constexpr (K::kPaired) {
      const float gate = to_f32(from_f32<Bf16>(total<K>(sums, item, warp, shape.slices, 2 * c, row)));
      const float up = to_f32(from_f32<Bf16>(total<K>(sums, item, warp, shape.slices, 2 * c + 1, row)));
      static_cast<Bf16*>(p.out.data)[at] = from_f32<Bf16>(silu(gate) * up);
    } else {
      static_cast<float*>(p.out.data)[at] = total<K>(sums, item, warp, shape.slices, c % 8 * 2 + c / 8, row);
    }
  }
}

// The warps that multiply, without the one that copies.
__device__ __forceinline__ void multiplying_warps_meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(32 * kWarps) : "memory");
}

template <class K>
__device__ void multiply_items(const FewFp8Args& p, const BlockRuns& block, int tiles, const Stage& shape, Ring ring,
                               Sums<K>& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int slice = warp % shape.slices, group = warp / shape.slices;
  const int place = shape.piece(2 * group + g % 2) + g / 2 * shape.row + slice * kSlice + 16 * t;
  Rows<K> rows;
  WeightView weight;
  int held = -1;
  for (int item = block.begin; item < block.end; ++item) {
    const int run = item / tiles - block.first;
    if (run != held) {
      take_rows<K>(p, block, run, slice, shape.depth, rows);
      weight = weight_of(p, block.run[run].expert, K::kPaired && g % 2 == 1);
      held = run;
    }
    const int64_t output = static_cast<int64_t>(item % tiles) * shape.groups * K::kOutputs;
    const float* scales = weight.scale + (output + group * K::kOutputs) / kGroup * weight.scale_stride;
    float sum[K::kTiles][4] = {};
#pragma unroll
    for (int step = 0; step < K::kSteps; ++step) {
      const int k = step * shape.depth + slice * kSlice;
      const int there = min(2, (static_cast<int>(p.inputs) - k) / kGroup);  // scales of the warp; none: negative
      const float scale[2] = {there > 0 ? scales[k / kGroup] : 0.f, there > 1 ? scales[k / kGroup + 1] : 0.f};
      barrier_wait(ring.full + ring.at, ring.round);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (i >= there) continue;
        multiply_group<K>(ring.stage() + place + i * kGroup, shape.row, scale[i], rows.chunk[step][i],
                          rows.scale[step][i], sum);
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(ring.empty + ring.at);
      ring.next();
    }
#pragma unroll
    for (int m = 0; m < K::kTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* to = &sums[item % 2][warp][g + 8 * half][8 * m + 2 * t];
        *reinterpret_cast<float2*>(to) = make_float2(sum[m][2 * half], sum[m][2 * half + 1]);
      }
    }
    multiplying_warps_meet();  // the other half of `sums` is free: who read it has come here
    put<K>(p, block, run, shape, item, output, sums);
  }
}

template <class K>
__global__ void __launch_bounds__(kThreads, K::kSteps == 1 && K::kRows == 8 ? 2 : 1)
    few_fp8_kernel(const __grid_constant__ FewFp8Args p, int tiles, int stages) {
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ __align__(16) Sums<K> sums;
  __shared__ BlockRuns block;
  __shared__ int count[kExpertsMax];
  __shared__ uint64_t full[kStagesMax], empty[kStagesMax];
  const int warp = threadIdx.x / 32;
  const Stage shape(p.inputs);
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, kWarps);
    }
    barriers_made();
  }
  if constexpr (K::kPaired) {
    // The views of all experts' weights, before it is known whose will be wanted.
    const int64_t line = blockIdx.x * int64_t{kThreads} + threadIdx.x, views = 128 / sizeof(WeightView);
    if (line * views < p.experts) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(p.weights + line * views));
      asm volatile("prefetch.global.L2 [%0];" ::"l"(p.others + line * views));
    }
    follow();
  }
  find_runs<K::kRows, kThreads>(p, tiles, count, block);
  const Ring ring = {memory, full, empty, stages, shape.bytes()};
  if (warp == kWarps) {
    copy_weights<K>(p, block, tiles, shape, ring);
    if constexpr (!K::kPaired) follow();
    return;
  }
  for (int i = warp; i < block.count; i += kWarps) fill_run(p, block, i);
  if constexpr (!K::kPaired) follow();
  multiplying_warps_meet();
  multiply_items<K>(p, block, tiles, shape, ring, sums);
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
  const Stage shape(args.inputs);
  const int64_t pairs = args.tokens * args.k;
  const int64_t tiles = args.outputs / (shape.groups * K::kOutputs);
  const int64_t items = runs_max(pairs, args.experts, args.with_shared ? args.tokens : 0, K::kRows) * tiles;
  // Few tokens: half a multiprocessor's memory, so that the next kernel's blocks can be there and fetch what they may.
  constexpr int64_t kFewPairs = 128;
  const int stages = pairs <= kFewPairs ? kStagesMax / 2 : kStagesMax;
  static SharedLimit limit;
  constexpr int kBytesMax = kStagesMax * (kWarps * kSlice * 16 + kWarps * 128);
  limit.raise(few_fp8_kernel<K>, kBytesMax, "moe (fp8, shared memory)");
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(items, kFp8Blocks));
  launch_following(few_fp8_kernel<K>, blocks, kThreads, static_cast<size_t>(stages * shape.bytes()), stream,
                   "moe (fp8)", args, static_cast<int>(tiles), stages);
}

template <bool paired, int kRows>
void launch_rows(const FewFp8Args& args, Stream stream) {
  if (args.inputs <= kInputsMax / 2) return launch<Kind<paired, kRows, 1>>(args, stream);
  launch<Kind<paired, kRows, 2>>(args, stream);
}

}  // namespace

bool few_fp8_takes(int64_t hidden, int64_t width, int64_t pairs, int64_t experts) {
  // A block has at most the share of runs that it would have if each were one item, and a part of one more at each end.
  const int64_t runs = runs_max(pairs, experts, pairs, run_rows(pairs, experts)) / kFp8Blocks + 2;
  return hidden % kGroup == 0 && width % kGroup == 0 && std::max(hidden, width) <= kInputsMax && runs <= kBlockRunsMax;
}

void few_fp8(const FewFp8Args& args, Stream stream) {
  if (args.tokens == 0) return;
  if (run_rows(args) <= 8) {
    args.paired ? launch_rows<true, 8>(args, stream) : launch_rows<false, 8>(args, stream);
  } else {
    args.paired ? launch_rows<true, kFewRows>(args, stream) : launch_rows<false, kFewRows>(args, stream);
  }
}

}  // namespace hylas::cuda
