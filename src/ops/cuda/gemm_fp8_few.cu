// A block has one run of rows and 64 rows of a weight (paired: 32 of each), 16 for each of four warps. The rows of x
// lie in shared memory whole; the weight comes through a ring of steps of 128 inputs, which are its scale blocks.
#include "ops/cuda/gemm_fp8_few.h"

#include "ops/cuda/element.cuh"
#include "ops/cuda/mma.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWeightRows = 64;
constexpr int kDepth = 128;
constexpr int kStages = 6;
constexpr int kStageBytes = kWeightRows * kDepth;
constexpr int kChunks = kDepth / 16;  // of a row in a step

// Place of a 16-byte chunk among rows of a step, such that a warp's reads meet no bank twice.
__device__ __forceinline__ int place(int row, int chunk) { return row * kDepth + (chunk ^ (row & 1) << 2) * 16; }

__device__ __forceinline__ void mma_e4m3(float (&sum)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                         uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The weight rows of a block: tiles one after another. Of 16 rows that a warp has of a tile, with two matrices 8 are
// the one's and 8 the other's.
template <bool paired>
struct Weights {
  static constexpr int kOutputs = paired ? kWeightRows / 2 : kWeightRows;  // of a tile
  WeightView first, second;
  int64_t output;  // the first tile's
  int steps;       // of a tile

  // Step `step` of all tiles' steps.
  __device__ void start(unsigned char* ring, int step) const {
    unsigned char* stage = ring + step % kStages * kStageBytes;
    const int chunk = threadIdx.x % kChunks, k = step % steps * kDepth;
    const int64_t begin = output + step / steps * kOutputs;
#pragma unroll
    for (int i = 0; i < kWeightRows * kChunks / kThreads; ++i) {
      const int r = threadIdx.x / kChunks + i * (kThreads / kChunks);
      const bool from_second = paired && r / 8 % 2 == 1;
      const WeightView& weight = from_second ? second : first;
      const int64_t row = begin + (paired ? r / 16 * 8 + r % 8 : r);
      copy_async(stage + place(r, chunk),
                 static_cast<const unsigned char*>(weight.data) + row * weight.stride + k + chunk * 16, true);
    }
  }
  __device__ float scale(bool of_second, int tile, int k_step) const {
    const WeightView& weight = of_second ? second : first;
    return weight.scale[(output + tile * kOutputs) / 128 * weight.scale_stride + k_step];
  }
};

// What a lane wants of a step beside the weight: 16 neighbouring inputs of each half of rows g and g + 8, and scales.
struct Side {
  uint4 low[2], high[2];
  float x_low, x_high, first, second;
};

// The lane's two rows of x; those that are not there stay zeros.
struct SideRows {
  const unsigned char* low = nullptr;
  const unsigned char* high = nullptr;
  const float* low_scale = nullptr;
  const float* high_scale = nullptr;
  int64_t scale_stride;

  __device__ SideRows(const FewFp8Args& p, const RowRun& run) : scale_stride(p.x.scale_stride) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const auto find = [&](int row, const unsigned char*& data, const float*& scale) {
      if (row >= run.end) return;
      const int64_t source = p.x_index ? p.x_index[row] : row;
      data = static_cast<const unsigned char*>(p.x.data) + source * p.x.inputs + t * 16;
      scale = p.x.scale + source;
    };
    find(run.begin + g, low, low_scale);
    find(run.begin + g + 8, high, high_scale);
  }
  __device__ void fetch(int k_step, Side& side) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = k_step * kDepth + half * 64;
      side.low[half] = low ? *reinterpret_cast<const uint4*>(low + at) : uint4{};
      side.high[half] = high ? *reinterpret_cast<const uint4*>(high + at) : uint4{};
    }
    side.x_low = low ? low_scale[k_step * scale_stride] : 0.f;
    side.x_high = high ? high_scale[k_step * scale_stride] : 0.f;
  }
};

// sum += 16 rows of x times the warp's two groups of 8 weights, over a step. A lane's 16 neighbouring inputs serve as
// those that two instructions want, on both sides alike (mma.cuh).
__device__ __forceinline__ void multiply_step(const Side& side, const unsigned char* w, float (&sum)[2][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  float part[2][4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 &low = side.low[half], &high = side.high[half];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint4 column = *reinterpret_cast<const uint4*>(w + place(warp * 16 + n * 8 + g, half * 4 + t));
      mma_e4m3(part[n], low.x, high.x, low.y, high.y, column.x, column.y);
      mma_e4m3(part[n], low.z, high.z, low.w, high.w, column.z, column.w);
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const float scale = n == 0 ? side.first : side.second;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum[n][j] = fmaf(scale * (j < 2 ? side.x_low : side.x_high), part[n][j], sum[n][j]);
  }
}

template <bool paired>
__device__ void put(const FewFp8Args& p, const RowRun& run, int64_t output, const float (&sum)[2][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = run.begin + g + 8 * half;
    if (row >= run.end) continue;
    const int64_t at = (p.out_index ? p.out_index[row] : row) * p.out.stride + output;
    if constexpr (paired) {
      float values[2];
      for (int i = 0; i < 2; ++i) {
        const float gate = to_f32(from_f32<Bf16>(sum[0][2 * half + i])),
                    up = to_f32(from_f32<Bf16>(sum[1][2 * half + i]));
        values[i] = silu(gate) * up;
      }
      auto* out = static_cast<Bf16*>(p.out.data) + at + warp * 8 + 2 * t;
      *reinterpret_cast<__nv_bfloat162*>(out) = __floats2bfloat162_rn(values[0], values[1]);
    } else {
      for (int n = 0; n < 2; ++n) {
        float* out = static_cast<float*>(p.out.data) + at + warp * 16 + n * 8 + 2 * t;
        *reinterpret_cast<float2*>(out) = make_float2(sum[n][2 * half], sum[n][2 * half + 1]);
      }
    }
  }
}

template <bool paired>
__global__ void __launch_bounds__(kThreads, 4) few_fp8_kernel(const __grid_constant__ FewFp8Args p, int tiles) {
  extern __shared__ __align__(128) unsigned char ring[];
  if (static_cast<int>(blockIdx.y) >= *p.run_count) return follow();
  const RowRun run = p.runs[blockIdx.y];
  const int k_steps = static_cast<int>(p.x.inputs / kDepth), steps = tiles * k_steps;
  const Weights<paired> weights = {p.weights[run.expert], paired ? p.others[run.expert] : p.weights[run.expert],
                                   int64_t{blockIdx.x} * tiles * Weights<paired>::kOutputs, k_steps};
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < steps) weights.start(ring, i);
    commit_copies();
  }
  follow();
  const SideRows rows(p, run);
  const auto fetch = [&](int step, Side& side) {
    const int tile = step / k_steps, k = step % k_steps;
    rows.fetch(k, side);
    side.first = weights.scale(false, tile, k);
    side.second = paired ? weights.scale(true, tile, k) : side.first;
  };
  Side sides[2];
  fetch(0, sides[0]);
  float sum[2][4] = {};
  for (int step = 0; step < steps; step += 2) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const int here = step + odd;
      if (here >= steps) break;
      wait_copies<kStages - 2>();
      __syncthreads();
      if (here + kStages - 1 < steps) weights.start(ring, here + kStages - 1);
      commit_copies();
      if (here + 1 < steps) fetch(here + 1, sides[1 - odd]);
      multiply_step(sides[odd], ring + here % kStages * kStageBytes, sum);
      if (here % k_steps < k_steps - 1) continue;
      put<paired>(p, run, weights.output + here / k_steps * Weights<paired>::kOutputs, sum);
      for (auto& group : sum) {
        for (float& value : group) value = 0.f;
      }
    }
  }
}

// As many tiles a block that there are still some blocks for each multiprocessor; it divides their number.
int tiles_of_block(int64_t tiles, int64_t runs) {
  constexpr int64_t kBlocksWanted = 1056;
  int each = 1;
  while (each < 8 && tiles % (2 * each) == 0 && tiles / (2 * each) * runs >= kBlocksWanted) each *= 2;
  return each;
}

template <bool paired>
void launch(const FewFp8Args& args, Stream stream) {
  const int64_t tiles = args.outputs / Weights<paired>::kOutputs;
  const int each = tiles_of_block(tiles, args.runs_max);
  constexpr int kBytes = kStages * kStageBytes;
  static SharedLimit limit;
  limit.raise(few_fp8_kernel<paired>, kBytes, "moe (fp8, shared memory)");
  const dim3 grid(static_cast<unsigned>(tiles / each), static_cast<unsigned>(args.runs_max));
  launch_following(few_fp8_kernel<paired>, grid, kThreads, kBytes, stream, "moe (fp8)", args, each);
}

}  // namespace

bool few_fp8_takes(int64_t hidden, int64_t width) { return hidden % kDepth == 0 && width % kDepth == 0; }

void few_fp8(const FewFp8Args& args, Stream stream) {
  if (args.runs_max == 0) return;
  args.paired ? launch<true>(args, stream) : launch<false>(args, stream);
}

}  // namespace hylas::cuda
