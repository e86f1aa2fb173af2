// The product on the tensor cores: bf16 rows, bf16 or fp8 weights, f32 sums. Steps of 64 inputs (fp8: 128; both are 128
// bytes of a weight's row) through a ring of copies. An fp8 weight is exact in bf16; the sum over each step, which is
// one scale block, is multiplied by the block's scale in f32 and added to the total.
#include <algorithm>

#include "ops/cuda/gemm_tile.cuh"
#include "ops/cuda/mma.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

constexpr int kGroup = 8;  // tiles of rows that share the weights they read from the second-level cache

template <class W_, int kRows_, int kOutputs_, int kRowWarps_, int kOutputWarps_, int kStages_, bool kPaired_>
struct Shape {
  using W = W_;
  static constexpr bool kFp8 = sizeof(W) == 1;
  static constexpr int kDepth = kFp8 ? 128 : 64;
  static constexpr bool kPaired = kPaired_;  // of 16 columns of the tile 8 are the first matrix's and 8 the other's
  static constexpr int kRows = kRows_, kColumns = kOutputs_, kOutputs = kPaired ? kOutputs_ / 2 : kOutputs_;
  static constexpr int kRowWarps = kRowWarps_, kOutputWarps = kOutputWarps_, kStages = kStages_;
  static constexpr int kThreads = 32 * kRowWarps * kOutputWarps;
  static constexpr int kM = kRows / kRowWarps / 16, kN = kColumns / kOutputWarps / 8;  // instructions of a warp
  static constexpr int kXBytes = kRows * kDepth * 2, kWBytes = kColumns * kDepth * static_cast<int>(sizeof(W));
  static constexpr int kStageBytes = kXBytes + kWBytes;
  static constexpr int kXChunks = kDepth / 8, kWChunks = 8;  // 16-byte chunks of a row of x and of a weight's
};

// Places of 16-byte chunks in a row, such that a warp's reads meet no bank twice.
template <class S>
__device__ __forceinline__ int x_place(int row, int chunk) {
  return row * S::kXChunks + (chunk ^ ((row & 1) << 2));
}
template <class S>
__device__ __forceinline__ int w_place(int row, int chunk) {
  return row * 8 + (chunk ^ (S::kFp8 ? (row & 3) << 1 : (row & 1) << 2));
}

// What a thread copies every step: the same chunk of a few rows of x and of the weight.
template <class S>
struct Copies {
  static constexpr int kXEach = S::kRows * S::kXChunks / S::kThreads;
  static constexpr int kWEach = S::kColumns * S::kWChunks / S::kThreads;
  static constexpr int kXRows = S::kThreads / S::kXChunks, kWRows = S::kThreads / S::kWChunks;
  static_assert(kXEach >= 1 && kWEach >= 1);
  const Bf16* x[kXEach];
  const typename S::W* w[kWEach];
  bool x_there[kXEach], w_there[kWEach];
  int x_chunk, w_chunk;

  __device__ Copies(const Product& p, const GemmTile& tile) {
    x_chunk = threadIdx.x % S::kXChunks;
    w_chunk = threadIdx.x % S::kWChunks;
#pragma unroll
    for (int i = 0; i < kXEach; ++i) {
      const int r = threadIdx.x / S::kXChunks + i * kXRows;
      x_there[i] = r < tile.rows;
      x[i] = static_cast<const Bf16*>(p.x.data) + (x_there[i] ? x_row(p, tile.row + r) : 0) * p.x.stride + x_chunk * 8;
    }
#pragma unroll
    for (int i = 0; i < kWEach; ++i) {
      const int r = threadIdx.x / S::kWChunks + i * kWRows;
      const bool second = S::kPaired && r / 8 % 2 == 1;
      const int n = S::kPaired ? r / 16 * 8 + r % 8 : r;
      const WeightView& weight = second ? tile.other : tile.weight;
      w_there[i] = n < tile.outputs;
      w[i] = static_cast<const typename S::W*>(weight.data) + (w_there[i] ? tile.output + n : 0) * weight.stride +
             w_chunk * (16 / static_cast<int>(sizeof(typename S::W)));
    }
  }

  __device__ void start_x(unsigned char* stage, int64_t k, int64_t k_end) const {
    const bool x_inside = k + x_chunk * 8 < k_end;
    auto* x_to = reinterpret_cast<uint4*>(stage);
#pragma unroll
    for (int i = 0; i < kXEach; ++i) {
      const int r = threadIdx.x / S::kXChunks + i * kXRows;
      const bool there = x_inside && x_there[i];
      copy_async(x_to + x_place<S>(r, x_chunk), there ? x[i] + k : x[0], there);
    }
  }

  __device__ void start_w(unsigned char* stage, int64_t k, int64_t k_end) const {
    const bool w_inside = k + w_chunk * (16 / static_cast<int>(sizeof(typename S::W))) < k_end;
    auto* w_to = reinterpret_cast<uint4*>(stage + S::kXBytes);
#pragma unroll
    for (int i = 0; i < kWEach; ++i) {
      const int r = threadIdx.x / S::kWChunks + i * kWRows;
      const bool there = w_inside && w_there[i];
      copy_async(w_to + w_place<S>(r, w_chunk), there ? w[i] + k : w[0], there);
    }
  }
};

// sum += the step in `stage`.
template <class S>
__device__ __forceinline__ void multiply_stage(const unsigned char* stage, float (&sum)[S::kM][S::kN][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int row = warp / S::kOutputWarps * (16 * S::kM), column = warp % S::kOutputWarps * (8 * S::kN);
  const auto* x = reinterpret_cast<const uint4*>(stage);
  const auto* w = reinterpret_cast<const uint4*>(stage + S::kXBytes);
#pragma unroll
  for (int part = 0; part < S::kDepth / 32; ++part) {
    uint4 b[S::kN];
#pragma unroll
    for (int n = 0; n < S::kN; ++n) {
      const int r = column + 8 * n + g;
      if constexpr (S::kFp8) {
        const auto* chunk = reinterpret_cast<const uint2*>(w + w_place<S>(r, part * 2 + t / 2));
        b[n] = e4m3_to_bf16(chunk[t % 2]);
      } else {
        b[n] = w[w_place<S>(r, part * 4 + t)];
      }
    }
#pragma unroll
    for (int m = 0; m < S::kM; ++m) {
      const int r = row + 16 * m + g;
      const uint4 low = x[x_place<S>(r, part * 4 + t)], high = x[x_place<S>(r + 8, part * 4 + t)];
#pragma unroll
      for (int n = 0; n < S::kN; ++n) mma_32(sum[m][n], low, high, b[n]);
    }
  }
}

template <class S>
__device__ __forceinline__ float scale_at(const WeightView& weight, int64_t output, int64_t k) {
  return weight.scale[output / 128 * weight.scale_stride + k / 128];
}

// The tile's whole sum over its slice of K. `ahead_of_x`: the weights of the first steps are fetched while the kernel
// before this one still makes x.
template <class S>
__device__ void multiply(const Product& p, const GemmTile& tile, bool ahead_of_x, unsigned char* memory,
                         float (&sum)[S::kM][S::kN][4]) {
  const Copies<S> copies(p, tile);
  const int steps = static_cast<int>((tile.k_end - tile.k_begin + S::kDepth - 1) / S::kDepth);
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (i < steps) copies.start_w(memory + i * S::kStageBytes, tile.k_begin + i * S::kDepth, tile.k_end);
  }
  if (ahead_of_x) follow();
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (i < steps) copies.start_x(memory + i * S::kStageBytes, tile.k_begin + i * S::kDepth, tile.k_end);
    commit_copies();
  }
  for (int i = 0; i < steps; ++i) {
    wait_copies<S::kStages - 2>();
    __syncthreads();
    const int ahead = i + S::kStages - 1;
    if (ahead < steps) {
      unsigned char* stage = memory + ahead % S::kStages * S::kStageBytes;
      copies.start_x(stage, tile.k_begin + ahead * S::kDepth, tile.k_end);
      copies.start_w(stage, tile.k_begin + ahead * S::kDepth, tile.k_end);
    }
    commit_copies();
    const unsigned char* stage = memory + i % S::kStages * S::kStageBytes;
    if constexpr (S::kFp8) {
      const int64_t k = tile.k_begin + i * S::kDepth;
      const float scale = scale_at<S>(tile.weight, tile.output, k);
      const float other = S::kPaired ? scale_at<S>(tile.other, tile.output, k) : scale;
      float part[S::kM][S::kN][4] = {};
      multiply_stage<S>(stage, part);
#pragma unroll
      for (int m = 0; m < S::kM; ++m) {
#pragma unroll
        for (int n = 0; n < S::kN; ++n) {
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[m][n][j] = fmaf(n % 2 ? other : scale, part[m][n][j], sum[m][n][j]);
        }
      }
    } else {
      multiply_stage<S>(stage, sum);
    }
  }
}

__device__ __forceinline__ void put(const View& to, int64_t at, float first, float second, bool both) {
  if (to.dtype == DType::kF32) {
    float* out = static_cast<float*>(to.data) + at;
    out[0] = first;
    if (both) out[1] = second;
  } else {
    Bf16* out = static_cast<Bf16*>(to.data) + at;
    if (both && reinterpret_cast<uintptr_t>(out) % 4 == 0) {
      *reinterpret_cast<__nv_bfloat162*>(out) = __floats2bfloat162_rn(first, second);
    } else {
      out[0] = __float2bfloat16_rn(first);
      if (both) out[1] = __float2bfloat16_rn(second);
    }
  }
}

__device__ __forceinline__ float gate(float x, float up) {
  return silu(to_f32(from_f32<Bf16>(x))) * to_f32(from_f32<Bf16>(up));
}

template <class S>
__global__ void __launch_bounds__(S::kThreads) gemm_bf16_kernel(const __grid_constant__ Product p) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int id = blockIdx.y * gridDim.x + blockIdx.x, group = id / (kGroup * gridDim.x);
  const int within = id % (kGroup * gridDim.x), group_rows = min(kGroup, static_cast<int>(gridDim.y) - group * kGroup);
  const bool ahead_of_x = !p.x_index && (!p.weights || p.runs_are_known);
  if (!ahead_of_x) follow();
  const GemmTile tile = gemm_tile(p, within / group_rows, group * kGroup + within % group_rows, S::kRows, S::kOutputs);
  if (tile.rows <= 0) return ahead_of_x ? follow() : void();
  float sum[S::kM][S::kN][4] = {};
  multiply<S>(p, tile, ahead_of_x, memory, sum);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int row = warp / S::kOutputWarps * (16 * S::kM), column = warp % S::kOutputWarps * (8 * S::kN);
  constexpr int kEach = S::kPaired ? 2 : 1;
#pragma unroll
  for (int m = 0; m < S::kM; ++m) {
#pragma unroll
    for (int n = 0; n < S::kN; n += kEach) {
      const int output = (column + 8 * n) / kEach + 2 * t;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = row + 16 * m + g + 8 * half;
        if (r >= tile.rows || output >= tile.outputs) continue;
        float first = sum[m][n][2 * half], second = sum[m][n][2 * half + 1];
        if constexpr (S::kPaired) {
          first = gate(first, sum[m][n + 1][2 * half]);
          second = gate(second, sum[m][n + 1][2 * half + 1]);
        }
        const int64_t at = out_at(p, tile, tile.row + r) + tile.output + output;
        put(tile.out, at, first, second, output + 1 < tile.outputs);
      }
    }
  }
}

// Blocks over the outputs of one matrix, or of all that stand side by side.
int64_t column_tiles(const Product& p, int64_t tile) {
  if (p.parts == 0) return (p.outputs + tile - 1) / tile;
  int64_t tiles = 0;
  for (int i = 0; i < p.parts; ++i) tiles += (p.part[i].outputs + tile - 1) / tile;
  return tiles;
}

template <class S>
void launch(const Product& p, Stream stream) {
  constexpr int kBytes = S::kStages * S::kStageBytes;
  static SharedLimit limit;
  limit.raise(gemm_bf16_kernel<S>, kBytes, "linear (shared memory)");
  const int64_t row_tiles = p.weights ? p.runs_max : (p.rows + S::kRows - 1) / S::kRows;
  const dim3 grid(static_cast<unsigned>(column_tiles(p, S::kOutputs)), static_cast<unsigned>(row_tiles),
                  static_cast<unsigned>(p.slices));
  launch_following(gemm_bf16_kernel<S>, grid, S::kThreads, kBytes, stream, "linear (bf16)", p);
}

// Tiles as they were measured best; the sum of an output does not depend on them.
template <class W, bool paired>
void choose_few(const Product& p, Stream stream) {
  constexpr int64_t kBlocksWanted = 512;
  const int64_t row_tiles = p.weights ? p.runs_max : 1;
  if constexpr (paired) {
    if (sizeof(W) == 1) return launch<Shape<W, 16, 32, 1, 2, 4, paired>>(p, stream);
  } else if (row_tiles * column_tiles(p, 64) * p.slices < kBlocksWanted) {
    return launch<Shape<W, 16, 32, 1, 4, sizeof(W) == 1 ? 4 : 6, paired>>(p, stream);
  } else if (sizeof(W) == 1 && p.weights) {
    return launch<Shape<W, 16, 128, 1, 4, 3, paired>>(p, stream);
  }
  launch<Shape<W, 16, 64, 1, 4, sizeof(W) == 1 ? 4 : 6, paired>>(p, stream);
}

template <class W, bool paired>
void choose(const Product& p, Stream stream) {
  constexpr bool kFp8 = sizeof(W) == 1;
  const int64_t rows = p.weights ? p.run_rows : p.rows;
  if (rows <= 16) return choose_few<W, paired>(p, stream);
  if constexpr (kFp8) {  // few rows of single bf16 matrices go to gemm_decode
    if (rows <= 32 && !p.weights) return launch<Shape<W, 32, 64, 1, 4, 4, paired>>(p, stream);
  }
  // Large tiles only where they are enough for the multiprocessors.
  const int64_t large = (rows + 127) / 128 * column_tiles(p, 128) * p.slices;
  if (rows <= 64 || (!p.weights && large < 96)) {
    // Every warp reads all rows, so that an fp8 weight is converted once.
    if (kFp8 && p.weights) return launch<Shape<W, 64, 128, 1, 4, 3, paired>>(p, stream);
    constexpr int kRowWarps = kFp8 ? 1 : 2;
    return launch<Shape<W, 64, 64, kRowWarps, 4 / kRowWarps, kFp8 ? 3 : 4, paired>>(p, stream);
  }
  launch<Shape<W, 128, 128, 2, 4, kFp8 ? 3 : 4, paired>>(p, stream);
}

}  // namespace

bool gemm_bf16_takes(const Product& p) {
  const bool fp8 = p.weight_dtype == DType::kF8E4M3;
  if (p.x.dtype != DType::kBF16 || (!fp8 && p.weight_dtype != DType::kBF16)) return false;
  const int64_t unit = fp8 ? 16 : 8;
  for (int s = 0; s <= p.slices; ++s) {
    if (p.slice_begin[s] % (s == p.slices ? unit : fp8 ? 128 : 8) != 0) return false;
  }
  const auto at_16 = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  // Weights of experts are checked where their table is made.
  return p.x.stride % 8 == 0 && at_16(p.x.data) &&
         (p.weights ||
          (p.weight.stride % unit == 0 && at_16(p.weight.data) && p.other.stride % unit == 0 && at_16(p.other.data)));
}

void gemm_bf16(const Product& p, Stream stream) {
  if (column_tiles(p, 1) == 0 || (p.weights ? p.runs_max : p.rows) == 0) return;
  if (gemm_small_takes(p)) return gemm_small(p, stream);
  if (p.weight_dtype == DType::kF8E4M3) {
    p.paired ? choose<F8, true>(p, stream) : choose<F8, false>(p, stream);
  } else {
    p.paired ? choose<Bf16, true>(p, stream) : choose<Bf16, false>(p, stream);
  }
}

int gemm_run_rows(int64_t rows_per_expert) { return rows_per_expert <= 16 ? 16 : rows_per_expert <= 64 ? 64 : 128; }

}  // namespace hylas::cuda
