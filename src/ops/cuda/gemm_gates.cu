// Products with a few outputs over many rows in bf16: the per-head gates of delta layers, the shared expert's gate. The
// bits are those of gemm_small.cu, which takes fewer rows: eight warps share K. A block reads its rows once for all
// matrices that read them.
#include "ops/cuda/gemm_small.cuh"

namespace hylas::cuda {
namespace {

constexpr int kRows = 32;     // of a block
constexpr int kTilesMax = 8;  // of kSmallOutputs, of a block
constexpr int kThreads = 32 * kSmallWarps;
constexpr int kHalves = kRows / kSmallRows;  // sums of 16 rows are exchanged at a time

// Rows `low` and `high` (8 behind) of each half and their outputs, one step of K after the other.
template <int kTiles>
struct GateSums {
  float sum[kHalves][kTiles][4] = {};
  const Bf16 *low[kHalves], *high[kHalves], *w[kTiles];

  // What is not there is computed over what is, and not stored.
  __device__ __forceinline__ GateSums(const Product& p, int first_tile, int tiles) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int64_t begin = threadIdx.x / 32 * (p.inputs / kSmallWarps) + 8 * t, last_row = p.rows - 1;
    const auto* x = static_cast<const Bf16*>(p.x.data) + begin;
#pragma unroll
    for (int m = 0; m < kHalves; ++m) {
      const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + m * kSmallRows + g;
      low[m] = x + min(row, last_row) * p.x.stride;
      high[m] = x + min(row + 8, last_row) * p.x.stride;
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const MatrixTile tile(p, first_tile + min(i, tiles - 1), kSmallOutputs);
      w[i] = static_cast<const Bf16*>(tile.weight.data) + begin +
             (tile.output + min(g, tile.outputs - 1)) * tile.weight.stride;
    }
  }

  __device__ __forceinline__ void multiply(int steps) {
#pragma unroll(kTiles > 4 ? 2 : 4)
    for (int s = 0; s < steps; ++s) {
      uint4 lows[kHalves], highs[kHalves], weights[kTiles];
#pragma unroll
      for (int m = 0; m < kHalves; ++m) {
        lows[m] = fetch_8(low[m] + s * kSmallStep);
        highs[m] = fetch_8(high[m] + s * kSmallStep);
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) weights[i] = fetch_8(w[i] + s * kSmallStep);
#pragma unroll
      for (int m = 0; m < kHalves; ++m) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i) mma_32(sum[m][i], lows[m], highs[m], weights[i]);
      }
    }
  }
};

__device__ __forceinline__ void put(const View& out, int64_t at, float value) {
  if (out.dtype == DType::kF32) {
    static_cast<float*>(out.data)[at] = value;
  } else {
    static_cast<Bf16*>(out.data)[at] = from_f32<Bf16>(value);
  }
}

// Rows in blockIdx.x, groups of kTiles in blockIdx.y; `tiles_total` over all matrices.
template <int kTiles>
__global__ void __launch_bounds__(kThreads) gemm_gates_kernel(const __grid_constant__ Product p, int tiles_total) {
  constexpr int kOutputs = kTiles * kSmallOutputs, kStride = kOutputs + 8;  // lanes of a warp meet no bank four times
  __shared__ float sums[kSmallWarps][kSmallRows][kStride];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int first_tile = blockIdx.y * kTiles, tiles = min(kTiles, tiles_total - first_tile);
  GateSums<kTiles> part(p, first_tile, tiles);
  follow();
  part.multiply(static_cast<int>(p.inputs / (kSmallWarps * kSmallStep)));
#pragma unroll
  for (int m = 0; m < kHalves; ++m) {
    if (m > 0) __syncthreads();  // the sums before have been read
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[warp][g + j / 2 * 8][i * kSmallOutputs + 2 * t + j % 2] = part.sum[m][i][j];
    }
    __syncthreads();
    for (int item = threadIdx.x; item < kSmallRows * tiles * kSmallOutputs; item += kThreads) {
      const int r = item / (tiles * kSmallOutputs), c = item % (tiles * kSmallOutputs);
      const MatrixTile tile(p, first_tile + c / kSmallOutputs, kSmallOutputs);
      const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + m * kSmallRows + r;
      if (row >= p.rows || c % kSmallOutputs >= tile.outputs) continue;
      float total = sums[0][r][c];
#pragma unroll
      for (int i = 1; i < kSmallWarps; ++i) total += sums[i][r][c];
      put(tile.out, row * tile.out.stride + tile.output + c % kSmallOutputs, total);
    }
  }
}

template <int kTiles>
void launch(const Product& p, int tiles, Stream stream) {
  const dim3 grid(static_cast<unsigned>((p.rows + kRows - 1) / kRows),
                  static_cast<unsigned>((tiles + kTiles - 1) / kTiles));
  launch_following(gemm_gates_kernel<kTiles>, grid, kThreads, 0, stream, "linear (gates)", p, tiles);
}

}  // namespace

bool gemm_gates_takes(const Product& p) { return p.rows >= kSmallRowsMax && gemm_small_can(p); }

void gemm_gates(const Product& p, Stream stream) {
  const auto tiles = static_cast<int>(matrix_tiles(p, kSmallOutputs));
  if (tiles == 0 || p.rows == 0) return;
  if (tiles == 1) return launch<1>(p, tiles, stream);
  if (tiles <= 4) return launch<4>(p, tiles, stream);
  launch<kTilesMax>(p, tiles, stream);
}

}  // namespace hylas::cuda
