// A block stays on its multiprocessor and goes through tiles: some outputs of a weight for all rows of x. One thread
// keeps a ring of copies going, from tile to tile without a break, and begins with weights while the kernel before this
// one still makes x; warpgroups multiply, 64 outputs each. A stage of the ring is 128 bytes of every row: 64 inputs in
// bf16, 128 in FP8, which are those of a scale.
#include "ops/cuda/gemm_decode.h"

#include <algorithm>

#include "ops/cuda/element.cuh"
#include "ops/cuda/wgmma.cuh"
#include "ops/fp8_plan.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

constexpr int kWarpgroup = 128;  // threads
constexpr int kStep = static_cast<int>(kDecodeStep);
constexpr int kGroup = static_cast<int>(kDecodeGroup);
constexpr int kWarpgroupBytes = 64 * kStep;  // of a stage's weights
constexpr int kAlignment = 1024;             // of what is swizzled

template <bool kFp8_, int kWarpgroups_, int kColumns_>
struct Shape {
  static constexpr bool kFp8 = kFp8_;
  static constexpr int kWarpgroups = kWarpgroups_;  // that multiply; one warp more copies
  static constexpr int kColumns = kColumns_;        // rows of x
  static constexpr int kTiles = kColumns / 8;
  static constexpr int kThreads = kWarpgroups * kWarpgroup + 32;
  static constexpr int kDepth = kFp8 ? kStep : kStep / 2;  // inputs of a stage
  static constexpr int kScaleBytes = kFp8 ? kColumns * static_cast<int>(sizeof(float)) : 0;
};

// How a launch's work is cut.
struct Cut {
  int groups;  // of 8 outputs, of a tile
  int tiles;   // of a slice
  int units;   // tiles of all slices
  int stage_bytes;
  int stages;
  __device__ int rows_at() const { return groups * kGroup * kStep; }  // of a stage, behind its weights
};

struct Tile {
  const DecodePart* part;
  int output;  // the first
  int slice;
  int k;  // the first input
  int steps;

  __device__ Tile(const DecodeArgs& p, const Cut& cut, int unit, int depth) {
    slice = unit / cut.tiles;
    int column = unit % cut.tiles, i = 0;
    const int wanted = cut.groups * kGroup / (p.paired ? 2 : 1);
    for (; i + 1 < p.parts; ++i) {
      const int columns = (static_cast<int>(p.part[i].outputs) + wanted - 1) / wanted;
      if (column < columns) break;
      column -= columns;
    }
    part = &p.part[i];
    output = column * wanted;
    k = static_cast<int>(p.slice_begin[slice]);
    steps = (static_cast<int>(p.slice_begin[slice + 1]) - k + depth - 1) / depth;
  }
};

template <class S>
__device__ __forceinline__ void copy_weight(const Tile& tile, int step, unsigned char* stage, uint64_t* full) {
  copy_box(stage, &tile.part->map, tile.k * (kStep / S::kDepth) + step * kStep, 0, 0, tile.output / kGroup, full);
}

template <class S>
__device__ __forceinline__ void copy_rows(const DecodeArgs& p, const Tile& tile, int step, unsigned char* to,
                                          uint64_t* full) {
  copy_box(to, &p.x, tile.k + step * S::kDepth, 0, full);
  if constexpr (S::kFp8) copy_box(to + S::kColumns * kStep, &p.x_scale, 0, step, full);
}

// One thread.
template <class S>
__device__ void copy_tiles(const DecodeArgs& p, const Cut& cut, unsigned char* ring, Turns stages) {
  const int bytes = cut.rows_at() + S::kColumns * kStep + S::kScaleBytes;
  bool ahead_of_x = true;
  for (int unit = static_cast<int>(blockIdx.x); unit < cut.units; unit += static_cast<int>(gridDim.x)) {
    const Tile tile(p, cut, unit, S::kDepth);
    int step = 0;
    if (ahead_of_x) {
      ahead_of_x = false;
      for (; step < min(cut.stages, tile.steps); ++step) {
        barrier_arrive_expecting(stages.full + step, bytes);
        copy_weight<S>(tile, step, ring + step * cut.stage_bytes, stages.full + step);
      }
      follow();
      for (int i = 0; i < step; ++i, stages.next()) {
        copy_rows<S>(p, tile, i, ring + i * cut.stage_bytes + cut.rows_at(), stages.full + i);
      }
    }
    for (; step < tile.steps; ++step, stages.next()) {
      unsigned char* stage = ring + stages.at * cut.stage_bytes;
      stages.wait_empty();
      barrier_arrive_expecting(stages.full + stages.at, bytes);
      copy_weight<S>(tile, step, stage, stages.full + stages.at);
      copy_rows<S>(p, tile, step, stage + cut.rows_at(), stages.full + stages.at);
    }
  }
}

__device__ __forceinline__ uint32_t packed(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

// Of 8 x 8 values of 16 bits lane 4 i + j has elements 2 j and 2 j + 1 of row i: the same of the columns.
__device__ __forceinline__ uint32_t transposed(uint32_t values) {
  uint32_t result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(values));
  return result;
}

__device__ __forceinline__ float gated(const DecodeArgs& p, float first, float second) {
  first = to_f32(from_f32<Bf16>(first)), second = to_f32(from_f32<Bf16>(second));
  return p.other_is_gated ? silu(second) * first : silu(first) * second;
}

// A warp's sums: of 16 outputs from `output` on (paired: 8), lane 4 g + t has g and g + 8 (g of both matrices) of rows
// 2 t and 2 t + 1 of every 8.
template <class S>
__device__ void put(const DecodeArgs& p, const Tile& tile, int output, const float (&sum)[S::kTiles][4]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const DecodePart& part = *tile.part;
  const int outputs = static_cast<int>(part.outputs), rows = static_cast<int>(p.rows);
#pragma unroll
  for (int m = 0; m < S::kTiles; ++m) {
    if (8 * m >= rows) break;
    if (part.out.dtype == DType::kF32) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = 8 * m + 2 * t + j % 2, at = output + j / 2 * 8 + g;
        if (row >= rows || at >= outputs) continue;
        static_cast<float*>(part.out.data)[tile.slice * p.slice_stride + row * part.out.stride + at] = sum[m][j];
      }
      continue;
    }
    const int row = 8 * m + g;
    Bf16* out = static_cast<Bf16*>(part.out.data) + tile.slice * p.slice_stride + row * part.out.stride;
    if (p.paired) {
      const uint32_t two = transposed(packed(gated(p, sum[m][0], sum[m][2]), gated(p, sum[m][1], sum[m][3])));
      if (row < rows && output + 2 * t < outputs) *reinterpret_cast<uint32_t*>(out + output + 2 * t) = two;
      continue;
    }
    // Even lanes get four of the first 8 outputs, odd ones of the others.
    const uint32_t low = transposed(packed(sum[m][0], sum[m][1])), high = transposed(packed(sum[m][2], sum[m][3]));
    const uint32_t other = __shfl_xor_sync(~0u, t % 2 ? low : high, 1);
    const int at = output + t % 2 * 8 + t / 2 * 4;
    if (row < rows && at < outputs) {
      *reinterpret_cast<uint2*>(out + at) = t % 2 ? uint2{other, high} : uint2{low, other};
    }
  }
}

// bf16: sums of all stages of a tile.
template <class S>
__device__ __forceinline__ void multiply_bf16(const Cut& cut, const unsigned char* ring, int steps, Turns& stages,
                                              float (&sum)[S::kTiles][4]) {
  Turns before = stages;
  for (int step = 0; step < steps; ++step, stages.next()) {
    const unsigned char* stage = ring + stages.at * cut.stage_bytes;
    const uint64_t weight = wgmma_operand(stage + threadIdx.x / kWarpgroup * kWarpgroupBytes);
    const uint64_t x = wgmma_operand(stage + cut.rows_at());
    stages.wait_full();
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kStep; k += 32) wgmma_bf16(sum, weight + (k >> 4), x + (k >> 4), true);
    wgmma_commit();
    wgmma_wait<1>();
    if (step > 0) before.arrive(before.empty);
    before = stages;
  }
  wgmma_wait();
  wgmma_settle(sum);
  before.arrive(before.empty);
}

// FP8: a stage's sums are multiplied by both scales, the rows' in the stage and the warp's outputs' in `scales`, and
// added.
template <class S>
__device__ __forceinline__ void multiply_fp8(const Cut& cut, const unsigned char* ring, int steps, const float* scales,
                                             Turns& stages, float (&sum)[S::kTiles][4]) {
  const int t = threadIdx.x % 4;
  float scale = scales[0];
  for (int step = 0; step < steps; ++step, stages.next()) {
    const unsigned char* stage = ring + stages.at * cut.stage_bytes;
    const unsigned char* rows = stage + cut.rows_at();
    const uint64_t weight = wgmma_operand(stage + threadIdx.x / kWarpgroup * kWarpgroupBytes), x = wgmma_operand(rows);
    const float next_scale = scales[min(step + 1, steps - 1)];
    stages.wait_full();
    float part[S::kTiles][4];
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kStep; k += 32) wgmma_e4m3(part, weight + (k >> 4), x + (k >> 4), k > 0);
    wgmma_commit();
    wgmma_wait();
    wgmma_settle(part);
    const auto* row_scales = reinterpret_cast<const float2*>(rows + S::kColumns * kStep);
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) {
      const float2 of_row = row_scales[4 * m + t];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum[m][j] = fmaf(scale * (j % 2 == 0 ? of_row.x : of_row.y), part[m][j], sum[m][j]);
      }
    }
    stages.arrive(stages.empty);
    scale = next_scale;
  }
}

// Warpgroups.
template <class S>
__device__ void multiply_tiles(const DecodeArgs& p, const Cut& cut, const unsigned char* ring, Turns stages) {
  const int warp = threadIdx.x / 32;
  for (int unit = static_cast<int>(blockIdx.x); unit < cut.units; unit += static_cast<int>(gridDim.x)) {
    const Tile tile(p, cut, unit, S::kDepth);
    const int output = tile.output + warp * (p.paired ? 8 : 16);
    float sum[S::kTiles][4];
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) sum[m][0] = sum[m][1] = sum[m][2] = sum[m][3] = 0.f;
    if constexpr (S::kFp8) {
      const int64_t block = min(output, static_cast<int>(tile.part->outputs) - 1) / 128;  // behind the last is none
      const float* scales = tile.part->scale + block * tile.part->scale_stride;
      multiply_fp8<S>(cut, ring, tile.steps, scales, stages, sum);
    } else {
      multiply_bf16<S>(cut, ring, tile.steps, stages, sum);
    }
    if (warp * 2 < cut.groups) put<S>(p, tile, output, sum);
  }
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1)
    gemm_decode_kernel(const __grid_constant__ DecodeArgs p, const __grid_constant__ Cut cut) {
  extern __shared__ unsigned char anywhere[];
  __shared__ uint64_t full[kDecodeStagesMax], empty[kDecodeStagesMax];
  constexpr int kMultiplying = S::kWarpgroups * kWarpgroup;
  if (threadIdx.x == kMultiplying) {
    prefetch_map(&p.x);
    for (int i = 0; i < p.parts; ++i) prefetch_map(&p.part[i].map);
    for (int i = 0; i < cut.stages; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, kMultiplying / 32);
    }
    barriers_made();
  }
  __syncthreads();
  unsigned char* ring = anywhere + (kAlignment - shared_address(anywhere) % kAlignment) % kAlignment;
  const Turns stages = {full, empty, cut.stages};
  if (threadIdx.x >= kMultiplying) {  // the others of this warp have nothing to wait for
    if (threadIdx.x == kMultiplying) copy_tiles<S>(p, cut, ring, stages);
    return;
  }
  follow();
  multiply_tiles<S>(p, cut, ring, stages);
}

template <class S>
void launch(const DecodeArgs& args, const DecodeTile& tile, Stream stream) {
  int64_t outputs[kPartsMax];
  for (int i = 0; i < args.parts; ++i) outputs[i] = args.part[i].outputs;
  const DecodeShape shape = {.fp8 = args.fp8,
                             .rows = args.rows,
                             .slices = args.slices,
                             .paired = args.paired,
                             .outputs = {outputs, static_cast<size_t>(args.parts)}};
  Cut cut;
  cut.groups = tile.groups;
  cut.tiles = static_cast<int>(decode_tiles(shape, tile.groups));
  cut.units = cut.tiles * args.slices;
  cut.stage_bytes = static_cast<int>(decode_stage_bytes(tile, args.fp8));
  cut.stages = tile.stages;
  static SharedLimit limit;
  limit.raise(gemm_decode_kernel<S>, static_cast<int>(kFp8SharedBytesMax) - kAlignment, "linear (shared memory)");
  launch_following(gemm_decode_kernel<S>, static_cast<unsigned>(std::min(cut.units, tile.blocks)), S::kThreads,
                   static_cast<size_t>(decode_shared_bytes(tile, args.fp8)), stream, "linear (decode)", args, cut);
}

template <bool kFp8, int kColumns>
void choose_groups(const DecodeArgs& args, const DecodeTile& tile, Stream stream) {
  if (tile.groups <= 8) return launch<Shape<kFp8, 1, kColumns>>(args, tile, stream);
  if (tile.groups <= 16) return launch<Shape<kFp8, 2, kColumns>>(args, tile, stream);
  launch<Shape<kFp8, 3, kColumns>>(args, tile, stream);
}

template <bool kFp8>
void choose(const DecodeArgs& args, const DecodeTile& tile, Stream stream) {
  if (tile.columns == 16) return choose_groups<kFp8, 16>(args, tile, stream);
  if (tile.columns == 32) return choose_groups<kFp8, 32>(args, tile, stream);
  if (tile.columns == 64) return choose_groups<kFp8, 64>(args, tile, stream);
  if constexpr (!kFp8) choose_groups<kFp8, 128>(args, tile, stream);
}

}  // namespace

void decode_product(const DecodeArgs& args, const DecodeTile& tile, Stream stream) {
  args.fp8 ? choose<true>(args, tile, stream) : choose<false>(args, tile, stream);
}

}  // namespace hylas::cuda
