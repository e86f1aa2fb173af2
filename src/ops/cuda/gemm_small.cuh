#pragma once
// A block's work in gemm_small.cu, also beside the blocks of FP8 matrices in one launch (gemm_fp8_rows.cu): 16 rows and
// 8 outputs of a bf16 matrix; its eight warps share K, and their sums are added in a fixed order. So an output's bits
// depend neither on other rows nor on other outputs.
#include <algorithm>

#include "ops/cuda/element.cuh"
#include "ops/cuda/gemm.h"
#include "ops/cuda/mma.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {

// Some outputs of one matrix, or of one of several that stand side by side.
struct MatrixTile {
  WeightView weight;
  View out;
  int64_t output = 0;  // the first
  int outputs = 0;     // there may be fewer than wanted at the matrix's end

  // Block `column` of blocks of `wanted` outputs.
  __device__ MatrixTile(const Product& p, int column, int wanted) : weight(p.weight), out(p.out) {
    int64_t all = p.outputs;
    for (int i = 0; i < p.parts; ++i) {
      weight = p.part[i].weight;
      out = p.part[i].out;
      all = p.part[i].outputs;
      const int columns = static_cast<int>((all + wanted - 1) / wanted);
      if (column < columns) break;
      column -= columns;
    }
    output = static_cast<int64_t>(column) * wanted;
    outputs = static_cast<int>(min(all - output, static_cast<int64_t>(wanted)));
  }
  // Output `column` of the tile.
  __device__ __forceinline__ void put(int64_t row, int column, float value) const {
    const int64_t at = row * out.stride + output + column;
    if (out.dtype == DType::kF32) {
      static_cast<float*>(out.data)[at] = value;
    } else {
      static_cast<Bf16*>(out.data)[at] = from_f32<Bf16>(value);
    }
  }
};

// How many such blocks there are.
inline int64_t matrix_tiles(const Product& p, int64_t wanted) {
  if (p.parts == 0) return (p.outputs + wanted - 1) / wanted;
  int64_t tiles = 0;
  for (int i = 0; i < p.parts; ++i) tiles += (p.part[i].outputs + wanted - 1) / wanted;
  return tiles;
}

constexpr int64_t kSmallRowsMax = 512;  // fewer rows; from there on gemm_gates.cu or cuBLASLt
// Whether the matrices and rows lie so that it can be done, however many rows there are.
bool gemm_small_can(const Product& product);

constexpr int kSmallWarps = 8;
constexpr int kSmallRows = 16, kSmallOutputs = 8;
constexpr int kSmallStep = 32;  // inputs of a warp at a time
constexpr int kSmallSums = kSmallWarps * kSmallRows * kSmallOutputs;

__device__ __forceinline__ uint4 fetch_8(const Bf16* from) { return *reinterpret_cast<const uint4*>(from); }

// The whole block; `memory` holds kSmallSums floats. Calls follow(). The weights of `kAhead` steps are fetched before
// that, the rows of `kXAhead` at once; the bits do not depend on either.
template <int kAhead, int kXAhead>
__device__ __forceinline__ void small_tile(const Product& p, int column, int row_block, float* memory) {
  auto& sums = *reinterpret_cast<float(*)[kSmallWarps][kSmallRows][kSmallOutputs]>(memory);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const MatrixTile tile(p, column, kSmallOutputs);
  const int64_t first_row = static_cast<int64_t>(row_block) * kSmallRows, last_row = p.rows - 1;
  // What is not there is computed over what is, and not stored.
  const int64_t output = tile.output + min(g, tile.outputs - 1);
  const int64_t low = min(first_row + g, last_row), high = min(first_row + g + 8, last_row);
  const int64_t begin = warp * (p.inputs / kSmallWarps) + 8 * t;
  const int steps = static_cast<int>(p.inputs / (kSmallWarps * kSmallStep));
  const Bf16* w = static_cast<const Bf16*>(tile.weight.data) + output * tile.weight.stride + begin;
  uint4 ahead[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (i < steps) ahead[i] = fetch_8(w + i * kSmallStep);
  }
  follow();
  const Bf16* x_low = static_cast<const Bf16*>(p.x.data) + low * p.x.stride + begin;
  const Bf16* x_high = static_cast<const Bf16*>(p.x.data) + high * p.x.stride + begin;
  float sum[4] = {};
#pragma unroll
  for (int first = 0; first < kAhead; first += kXAhead) {
    uint4 lows[kXAhead], highs[kXAhead];
#pragma unroll
    for (int i = 0; i < kXAhead; ++i) {
      if (first + i >= steps) continue;
      lows[i] = fetch_8(x_low + (first + i) * kSmallStep);
      highs[i] = fetch_8(x_high + (first + i) * kSmallStep);
    }
#pragma unroll
    for (int i = 0; i < kXAhead; ++i) {
      if (first + i < steps) mma_32(sum, lows[i], highs[i], ahead[first + i]);
    }
  }
#pragma unroll 4
  for (int i = kAhead; i < steps; ++i) {
    mma_32(sum, fetch_8(x_low + i * kSmallStep), fetch_8(x_high + i * kSmallStep), fetch_8(w + i * kSmallStep));
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) sums[warp][g + j / 2 * 8][2 * t + j % 2] = sum[j];
  __syncthreads();
  const int r = threadIdx.x / kSmallOutputs, c = threadIdx.x % kSmallOutputs;
  if (r >= kSmallRows || first_row + r > last_row || c >= tile.outputs) return;
  float total = sums[0][r][c];
#pragma unroll
  for (int i = 1; i < kSmallWarps; ++i) total += sums[i][r][c];
  tile.put(first_row + r, c, total);
}

}  // namespace hylas::cuda
