// Products with few outputs (routers, gates) in bf16: too few tiles to keep the GPU busy one step of K after another. A
// block has 16 rows and 8 outputs, and its eight warps share K; their sums are added in a fixed order. So an output's
// bits depend neither on other rows nor on other outputs.
#include <algorithm>

#include "ops/cuda/element.cuh"
#include "ops/cuda/gemm.h"
#include "ops/cuda/mma.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kRows = 16, kOutputs = 8;
constexpr int kStep = 32;  // inputs of a warp at a time
constexpr int kAhead = 8;  // steps whose weights are fetched before x is there
constexpr int64_t kOutputsMax = 512, kRowsMax = 512;

struct Tile {
  WeightView weight;
  View out;
  int64_t outputs = 0;  // of the matrix
  int64_t output = 0;   // first of the tile
};

__device__ __forceinline__ Tile find_tile(const Product& p, int column) {
  Tile tile = {p.weight, p.out, p.outputs, 0};
  for (int i = 0; i < p.parts; ++i) {
    tile = {p.part[i].weight, p.part[i].out, p.part[i].outputs, 0};
    const int columns = static_cast<int>((tile.outputs + kOutputs - 1) / kOutputs);
    if (column < columns) break;
    column -= columns;
  }
  tile.output = static_cast<int64_t>(column) * kOutputs;
  return tile;
}

__device__ __forceinline__ uint4 fetch(const Bf16* from) { return *reinterpret_cast<const uint4*>(from); }

__global__ void __launch_bounds__(32 * kWarps) gemm_small_kernel(const __grid_constant__ Product p) {
  __shared__ float sums[kWarps][kRows][kOutputs];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const Tile tile = find_tile(p, blockIdx.x);
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kRows, last_row = p.rows - 1;
  const int64_t output = min(tile.output + g, tile.outputs - 1);
  // What is not there is computed over what is, and not stored.
  const int64_t low = min(first_row + g, last_row), high = min(first_row + g + 8, last_row);
  const int64_t begin = warp * (p.inputs / kWarps) + 8 * t;
  const int steps = static_cast<int>(p.inputs / (kWarps * kStep));
  const Bf16* w = static_cast<const Bf16*>(tile.weight.data) + output * tile.weight.stride + begin;
  uint4 column[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (i < steps) column[i] = fetch(w + i * kStep);
  }
  follow();
  const Bf16* x_low = static_cast<const Bf16*>(p.x.data) + low * p.x.stride + begin;
  const Bf16* x_high = static_cast<const Bf16*>(p.x.data) + high * p.x.stride + begin;
  float sum[4] = {};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (i < steps) mma_32(sum, fetch(x_low + i * kStep), fetch(x_high + i * kStep), column[i]);
  }
#pragma unroll 4
  for (int i = kAhead; i < steps; ++i) {
    mma_32(sum, fetch(x_low + i * kStep), fetch(x_high + i * kStep), fetch(w + i * kStep));
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) sums[warp][g + j / 2 * 8][2 * t + j % 2] = sum[j];
  __syncthreads();
  const int r = threadIdx.x / kOutputs, c = threadIdx.x % kOutputs;
  if (r >= kRows || first_row + r > last_row || tile.output + c >= tile.outputs) return;
  float total = sums[0][r][c];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) total += sums[i][r][c];
  const int64_t at = (first_row + r) * tile.out.stride + tile.output + c;
  if (tile.out.dtype == DType::kF32) {
    static_cast<float*>(tile.out.data)[at] = total;
  } else {
    static_cast<Bf16*>(tile.out.data)[at] = from_f32<Bf16>(total);
  }
}

int64_t tiles(int64_t outputs) { return (outputs + kOutputs - 1) / kOutputs; }

}  // namespace

bool gemm_small_takes(const Product& p) {
  const auto fits = [&](const WeightView& weight, int64_t outputs) {
    return outputs <= kOutputsMax && weight.stride % 8 == 0 && reinterpret_cast<uintptr_t>(weight.data) % 16 == 0;
  };
  bool all = p.parts > 0 || fits(p.weight, p.outputs);
  for (int i = 0; i < p.parts; ++i) all = all && fits(p.part[i].weight, p.part[i].outputs);
  return all && p.x.dtype == DType::kBF16 && p.weight_dtype == DType::kBF16 && !p.paired && !p.weights && !p.x_index &&
         !p.out_index && p.slices == 1 && p.rows < kRowsMax && p.inputs % (kWarps * kStep) == 0 &&
         p.x.stride % 8 == 0 && reinterpret_cast<uintptr_t>(p.x.data) % 16 == 0;
}

void gemm_small(const Product& p, Stream stream) {
  int64_t columns = p.parts > 0 ? 0 : tiles(p.outputs);
  for (int i = 0; i < p.parts; ++i) columns += tiles(p.part[i].outputs);
  if (columns == 0 || p.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>((p.rows + kRows - 1) / kRows));
  launch_following(gemm_small_kernel, grid, 32 * kWarps, 0, stream, "linear (few outputs)", p);
}

}  // namespace hylas::cuda
