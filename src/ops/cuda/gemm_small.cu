// Products with few outputs (routers, gates) in bf16: too few tiles to keep the GPU busy one step of K after another.
#include "ops/cuda/gemm_small.cuh"

#include "ops/cuda/bulk_copy.cuh"

namespace hylas::cuda {
namespace {

constexpr int64_t kOutputsMax = 512;

__global__ void __launch_bounds__(32 * kSmallWarps) gemm_small_kernel(const __grid_constant__ Product p) {
  __shared__ float sums[kSmallSums];
  small_tile<8, 8>(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), sums);
}

// Of many rows a block has 32 and 16 outputs: what comes from the second-level cache is half as much for each product.
// The sums are small_tile's.
constexpr int kWideTiles = 2;  // of the tensor cores', of rows and of outputs
constexpr int kWideRows = kWideTiles * kSmallRows, kWideOutputs = kWideTiles * kSmallOutputs;
constexpr int kWideThreads = 32 * kSmallWarps;
constexpr int64_t kNarrowBlocks = 264;  // two for each multiprocessor

// To the second-level cache, before the rows are there: a thread for each output.
__device__ void prefetch_weights(const MatrixTile& tile, int64_t inputs) {
  if (static_cast<int>(threadIdx.x) >= tile.outputs) return;
  const Bf16* weight = static_cast<const Bf16*>(tile.weight.data) + (tile.output + threadIdx.x) * tile.weight.stride;
  prefetch_bytes(weight, static_cast<uint32_t>(inputs * sizeof(Bf16)));
}

__global__ void __launch_bounds__(kWideThreads, 2) gemm_small_wide_kernel(const __grid_constant__ Product p) {
  __shared__ float sums[kSmallWarps][kWideRows][kWideOutputs + 2];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const MatrixTile tile(p, static_cast<int>(blockIdx.x), kWideOutputs);
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kWideRows, last_row = p.rows - 1;
  if (blockIdx.y == 0) prefetch_weights(tile, p.inputs);
  // What is not there is computed over what is, and not stored.
  const int64_t begin = warp * (p.inputs / kSmallWarps) + 8 * t;
  const int steps = static_cast<int>(p.inputs / (kSmallWarps * kSmallStep));
  const Bf16 *w[kWideTiles], *low[kWideTiles], *high[kWideTiles];
  const auto row = [&](int64_t r) {
    return static_cast<const Bf16*>(p.x.data) + min(first_row + r, last_row) * p.x.stride + begin;
  };
#pragma unroll
  for (int i = 0; i < kWideTiles; ++i) {
    w[i] = static_cast<const Bf16*>(tile.weight.data) +
           (tile.output + min(8 * i + g, tile.outputs - 1)) * tile.weight.stride + begin;
    low[i] = row(16 * i + g), high[i] = row(16 * i + g + 8);
  }
  follow();
  float sum[kWideTiles][kWideTiles][4] = {};
#pragma unroll 2
  for (int k = 0; k < steps; ++k) {
    uint4 weights[kWideTiles], lows[kWideTiles], highs[kWideTiles];
#pragma unroll
    for (int i = 0; i < kWideTiles; ++i) {
      weights[i] = fetch_8(w[i] + k * kSmallStep);
      lows[i] = fetch_8(low[i] + k * kSmallStep);
      highs[i] = fetch_8(high[i] + k * kSmallStep);
    }
#pragma unroll
    for (int i = 0; i < kWideTiles * kWideTiles; ++i) {
      mma_32(sum[i / kWideTiles][i % kWideTiles], lows[i / kWideTiles], highs[i / kWideTiles], weights[i % kWideTiles]);
    }
  }
#pragma unroll
  for (int i = 0; i < kWideTiles * kWideTiles * 4; ++i) {
    const int r = i / 4 / kWideTiles, o = i / 4 % kWideTiles, j = i % 4;
    sums[warp][kSmallRows * r + g + j / 2 * 8][kSmallOutputs * o + 2 * t + j % 2] = sum[r][o][j];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kWideRows * kWideOutputs; i += kWideThreads) {
    const int r = i / kWideOutputs, c = i % kWideOutputs;
    if (first_row + r > last_row || c >= tile.outputs) continue;
    float total = sums[0][r][c];
#pragma unroll
    for (int k = 1; k < kSmallWarps; ++k) total += sums[k][r][c];
    tile.put(first_row + r, c, total);
  }
}

}  // namespace

bool gemm_small_can(const Product& p) {
  const auto fits = [&](const WeightView& weight, int64_t outputs) {
    return outputs <= kOutputsMax && weight.stride % 8 == 0 && reinterpret_cast<uintptr_t>(weight.data) % 16 == 0;
  };
  bool all = p.parts > 0 || fits(p.weight, p.outputs);
  for (int i = 0; i < p.parts; ++i) all = all && fits(p.part[i].weight, p.part[i].outputs);
  return all && p.x.dtype == DType::kBF16 && p.weight_dtype == DType::kBF16 && !p.paired && !p.weights && !p.x_index &&
         !p.out_index && p.slices == 1 && p.inputs % (kSmallWarps * kSmallStep) == 0 && p.x.stride % 8 == 0 &&
         reinterpret_cast<uintptr_t>(p.x.data) % 16 == 0;
}

bool gemm_small_takes(const Product& p) { return p.rows < kSmallRowsMax && gemm_small_can(p); }

void gemm_small(const Product& p, Stream stream) {
  const auto blocks = [&](int64_t outputs, int64_t rows) {
    return dim3(static_cast<unsigned>(matrix_tiles(p, outputs)), static_cast<unsigned>((p.rows + rows - 1) / rows));
  };
  const dim3 narrow = blocks(kSmallOutputs, kSmallRows);
  if (narrow.x == 0 || narrow.y == 0) return;
  if (int64_t{narrow.x} * narrow.y <= kNarrowBlocks) {
    launch_following(gemm_small_kernel, narrow, 32 * kSmallWarps, 0, stream, "linear (few outputs)", p);
  } else {
    launch_following(gemm_small_wide_kernel, blocks(kWideOutputs, kWideRows), kWideThreads, 0, stream,
                     "linear (few outputs, many rows)", p);
  }
}

}  // namespace hylas::cuda
