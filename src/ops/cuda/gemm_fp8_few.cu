// A block has one run of rows and 64 rows of a weight (paired: 32 of each), 16 for each of four warps. The rows of x
// lie in shared memory whole; the weight comes through a ring of steps of 128 inputs, which are its scale blocks.
#include "ops/cuda/gemm_fp8_few.h"

#include <algorithm>

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
constexpr int64_t kXBytesMax = 96 << 10;

// Place of a 16-byte chunk among rows of a step, such that a warp's reads meet no bank twice.
__device__ __forceinline__ int place(int row, int chunk) { return row * kDepth + (chunk ^ (row & 1) << 2) * 16; }

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

// Shared memory: the ring, [steps][rows][128] of x, [steps][rows] scales of x, [tiles][2][steps] of the weights.
template <int kRows>
struct Layout {
  int steps;
  int tiles;
  __host__ __device__ int x() const { return kStages * kStageBytes; }
  __host__ __device__ int x_scales() const { return x() + steps * kRows * kDepth; }
  __host__ __device__ int weight_scales() const { return x_scales() + steps * kRows * 4; }
  __host__ __device__ int bytes() const { return weight_scales() + tiles * 2 * steps * 4; }
};

// Copies of the run's rows are begun, their scales stored.
template <bool paired, int kRows>
__device__ void take_rows(const FewFp8Args& p, const RowRun& run, const Weights<paired>& weights, unsigned char* memory,
                          const Layout<kRows>& layout) {
  const int rows = run.end - run.begin, steps = layout.steps;
  const auto source = [&](int row) {
    return static_cast<int64_t>(p.x_index ? p.x_index[run.begin + row] : run.begin + row);
  };
  for (int i = threadIdx.x; i < rows * steps * kChunks; i += kThreads) {
    const int row = i / (steps * kChunks), at = i % (steps * kChunks);
    copy_async(memory + layout.x() + at / kChunks * (kRows * kDepth) + place(row, at % kChunks),
               static_cast<const unsigned char*>(p.x.data) + source(row) * p.x.inputs + at * 16, true);
  }
  auto* x_scales = reinterpret_cast<float*>(memory + layout.x_scales());
  for (int i = threadIdx.x; i < rows * steps; i += kThreads) {
    const int row = i % rows, step = i / rows;
    x_scales[step * kRows + row] = p.x.scale[step * p.x.scale_stride + source(row)];
  }
  auto* weight_scales = reinterpret_cast<float*>(memory + layout.weight_scales());
  for (int i = threadIdx.x; i < layout.tiles * 2 * steps; i += kThreads) {
    weight_scales[i] = weights.scale(i / steps % 2 == 1, i / (2 * steps), i % steps);
  }
}

// part = the rows of x times the warp's two groups of 8 weights, over a step. Rows that are not there hold anything,
// and behind kRows zeros.
template <int kRows>
__device__ __forceinline__ void multiply_step(const unsigned char* x, const unsigned char* w, float (&part)[2][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // A lane's 16 neighbouring inputs serve as those that two instructions want, on both sides alike (mma.cuh).
    const int chunk = half * 4 + t;
    const uint4 low = *reinterpret_cast<const uint4*>(x + place(g, chunk));
    const uint4 high = kRows > 8 ? *reinterpret_cast<const uint4*>(x + place(g + 8, chunk)) : uint4{};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint4 column = *reinterpret_cast<const uint4*>(w + place(warp * 16 + n * 8 + g, chunk));
      mma_e4m3(part[n], low.x, high.x, low.y, high.y, column.x, column.y);
      mma_e4m3(part[n], low.z, high.z, low.w, high.w, column.z, column.w);
    }
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

template <bool paired, int kRows>
__global__ void __launch_bounds__(kThreads) few_fp8_kernel(const __grid_constant__ FewFp8Args p, int tiles) {
  extern __shared__ __align__(128) unsigned char memory[];
  if (static_cast<int>(blockIdx.y) >= *p.run_count) return follow();
  const RowRun run = p.runs[blockIdx.y];
  const Layout<kRows> layout = {static_cast<int>(p.x.inputs / kDepth), tiles};
  const Weights<paired> weights = {p.weights[run.expert], paired ? p.others[run.expert] : p.weights[run.expert],
                                   int64_t{blockIdx.x} * tiles * Weights<paired>::kOutputs, layout.steps};
  const int steps = tiles * layout.steps;
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < steps) weights.start(memory, i);
  }
  follow();
  take_rows(p, run, weights, memory, layout);
  commit_copies();  // the first steps and x are one group; groups without copies keep the count of those behind
#pragma unroll
  for (int i = 0; i < kStages - 2; ++i) commit_copies();
  const auto* x_scales = reinterpret_cast<const float*>(memory + layout.x_scales());
  const auto* weight_scales = reinterpret_cast<const float*>(memory + layout.weight_scales());
  const int g = threadIdx.x % 32 / 4;
  int step = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    float sum[2][4] = {};
    for (int k = 0; k < layout.steps; ++k, ++step) {
      wait_copies<kStages - 2>();
      __syncthreads();
      if (step + kStages - 1 < steps) weights.start(memory, step + kStages - 1);
      commit_copies();
      float part[2][4] = {};
      multiply_step<kRows>(memory + layout.x() + k * kRows * kDepth, memory + step % kStages * kStageBytes, part);
      const float low = x_scales[k * kRows + g], high = kRows > 8 ? x_scales[k * kRows + g + 8] : 0.f;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const float scale = weight_scales[(2 * tile + n) * layout.steps + k];
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[n][j] = fmaf(scale * (j < 2 ? low : high), part[n][j], sum[n][j]);
      }
    }
    put<paired>(p, run, weights.output + tile * Weights<paired>::kOutputs, sum);
  }
}

// As many tiles a block that there are still some blocks for each multiprocessor; it divides their number.
int tiles_of_block(int64_t tiles, int64_t runs) {
  constexpr int64_t kBlocksWanted = 1056;
  int each = 1;
  while (each < 8 && tiles % (2 * each) == 0 && tiles / (2 * each) * runs >= kBlocksWanted) each *= 2;
  return each;
}

template <bool paired, int kRows>
void launch(const FewFp8Args& args, Stream stream) {
  const int64_t tiles = args.outputs / Weights<paired>::kOutputs;
  const int each = tiles_of_block(tiles, args.runs_max);
  const Layout<kRows> layout = {static_cast<int>(args.x.inputs / kDepth), each};
  static SharedLimit limit;
  limit.raise(few_fp8_kernel<paired, kRows>, static_cast<int>(kStages * kStageBytes + kXBytesMax + (16 << 10)),
              "moe (fp8, shared memory)");
  const dim3 grid(static_cast<unsigned>(tiles / each), static_cast<unsigned>(args.runs_max));
  launch_following(few_fp8_kernel<paired, kRows>, grid, kThreads, static_cast<size_t>(layout.bytes()), stream,
                   "moe (fp8)", args, each);
}

}  // namespace

bool few_fp8_takes(int64_t hidden, int64_t width) {
  return hidden % kDepth == 0 && width % kDepth == 0 && kFewRows * std::max(hidden, width) <= kXBytesMax;
}

void few_fp8(const FewFp8Args& args, Stream stream) {
  if (args.runs_max == 0) return;
  if (args.run_rows <= 8) {
    args.paired ? launch<true, 8>(args, stream) : launch<false, 8>(args, stream);
  } else {
    args.paired ? launch<true, kFewRows>(args, stream) : launch<false, kFewRows>(args, stream);
  }
}

}  // namespace hylas::cuda
