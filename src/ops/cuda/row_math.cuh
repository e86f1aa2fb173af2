#pragma once
// A row's products in row_layers.cu, with the sums of gemm_fp8_rows.cu, gemm_fp8_chosen.cu and gemm_small.cuh in their
// order: the same bits. A working warp has every eighth block of 128 inputs, of 16 outputs at a time.
#include "ops/cuda/e4m3.cuh"
#include "ops/cuda/mma.cuh"
#include "ops/cuda/quantize.cuh"
#include "ops/cuda/row_layers.h"
#include "ops/cuda/row_ring.cuh"

namespace hylas::cuda {

constexpr int kRowBlocks = row_shape::kHidden / 128;  // of K
constexpr int kRowShare = kRowBlocks / kRowWarps;     // a warp's
constexpr int kRowTile = 16;                          // outputs of the instruction

// The warps' sums over tiles. Who writes some has not read them since the last time that all warps have met: first
// products and an expert's gate and up have the tiles from 0 on, then down, and the others the last one.
struct RowSums {
  static constexpr int kTiles = 9, kDown = 4, kOther = 8;
  float sum[kTiles * kRowWarps][kRowTile];
};

// The row as the products read it.
struct RowInput {
  alignas(16) unsigned char e4m3[row_shape::kHidden];
  alignas(16) Bf16 values[row_shape::kHidden];
  float scale[kRowBlocks];
  float part[8];
};

// Written by another multiprocessor in this launch: past the first-level cache.
template <class T>
__device__ __forceinline__ T fresh(const void* from) {
  return __ldcg(static_cast<const T*>(from));
}

// A block of 128 inputs on the side of the columns. Lanes of odd g have the two chunks of 64 in the other order, for
// their columns and rows alike, so that reads of two neighbouring rows do not meet in shared memory's banks.
struct RowBlock {
  uint32_t word[2][4][2];
  __device__ __forceinline__ void take(const unsigned char* e4m3) {
    const int lane = threadIdx.x % 32, odd = lane / 4 % 2, t = lane % 4;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint4 chunk = *reinterpret_cast<const uint4*>(e4m3 + (c ^ odd) * 64 + t * 16);
      const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        word[c][j][0] = e4m3_pair_to_f16(words[j]);
        word[c][j][1] = e4m3_high_pair_to_f16(words[j]);
      }
    }
  }
};

// Some blocks of 128 values in bf16, of each of which the lane has four, in e4m3 to `memory`, 128 bytes of the warp's
// for each (RowBlock::take), and their scales.
template <int N>
__device__ __forceinline__ void quantize_blocks(const uint2 (&pairs)[N], unsigned char (*memory)[128],
                                                float (&scale)[N]) {
  __syncwarp();  // what was there before has been read
#pragma unroll
  for (int i = 0; i < N; ++i) {
    uint32_t most = larger_magnitudes(pairs[i].x, pairs[i].y);
    most = max(most << 16, most & 0xffff0000u);
    const GroupScale group(__uint_as_float(__reduce_max_sync(~0u, most)));
    reinterpret_cast<uint32_t*>(memory[i])[threadIdx.x % 32] = group.of_pairs(pairs[i].x, pairs[i].y);
    scale[i] = group.scale;
  }
  __syncwarp();
}
// What comes behind is not begun before: registers.
__device__ __forceinline__ void in_turn() { asm volatile("" ::: "memory"); }

// A lane's part of a block of K of outputs g and g + 8; the rows may lie anywhere.
struct RowWeights {
  uint4 low[2], high[2];
  // From the row's block of K on.
  static __device__ __forceinline__ void take(uint4 (&to)[2], const unsigned char* row) {
    const int lane = threadIdx.x % 32, odd = lane / 4 % 2, t = lane % 4;
#pragma unroll
    for (int c = 0; c < 2; ++c) to[c] = *reinterpret_cast<const uint4*>(row + (c ^ odd) * 64 + t * 16);
  }
};

// Sums over the block of outputs g and g + 8, the same in all lanes of a g.
__device__ __forceinline__ float2 multiply_block(const RowWeights& w, const RowBlock& x) {
  float part[2][4] = {};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint32_t lows[4] = {w.low[c].x, w.low[c].y, w.low[c].z, w.low[c].w};
      const uint32_t highs[4] = {w.high[c].x, w.high[c].y, w.high[c].z, w.high[c].w};
      mma_f16(part[c], e4m3_pair_to_f16(lows[j]), e4m3_pair_to_f16(highs[j]), e4m3_high_pair_to_f16(lows[j]),
              e4m3_high_pair_to_f16(highs[j]), x.word[c][j][0], x.word[c][j][1]);
    }
  }
  return threadIdx.x / 4 % 2 ? make_float2(part[0][1] + part[1][1], part[0][3] + part[1][3])
                             : make_float2(part[0][0] + part[1][0], part[0][2] + part[1][2]);
}

__device__ __forceinline__ void put_sums(RowSums& sums, int at, const float2& sum) {
  const int lane = threadIdx.x % 32, g = lane / 4;
  if (lane % 4 == 0) {
    sums.sum[at][g] = sum.x;
    sums.sum[at][g + 8] = sum.y;
  }
}

// An output's sums from `at` on, in their order.
template <int kSums>
__device__ __forceinline__ float total_of(const RowSums& sums, int at, int output) {
  float total = sums.sum[at][output];
#pragma unroll
  for (int i = 1; i < kSums; ++i) total += sums.sum[at + i][output];
  return total;
}

// Up to eight outputs in bf16 over the whole row, by all working warps; `row`: that of the lane's output, lane / 4 or
// the last. Sums in `part` [8 warps][8 outputs].
__device__ __forceinline__ void multiply_small(const unsigned char* row, const Bf16* values, float* part) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, t = lane % 4;
  constexpr int kEach = row_shape::kHidden / 8;
  const int begin = warp * kEach + 8 * t;
  const auto* w = reinterpret_cast<const Bf16*>(row) + begin;
  float sum[4] = {};
#pragma unroll
  for (int i = 0; i < kEach / 32; ++i) {
    const uint4 x = *reinterpret_cast<const uint4*>(values + begin + i * 32);
    mma_32(sum, x, x, *reinterpret_cast<const uint4*>(w + i * 32));
  }
  if (lane / 4 == 0) {
    part[warp * 8 + 2 * t] = sum[0];
    part[warp * 8 + 2 * t + 1] = sum[1];
  }
}
__device__ __forceinline__ float small_total(const float* part, int output) {
  float total = part[output];
#pragma unroll
  for (int w = 1; w < 8; ++w) total += part[w * 8 + output];
  return total;
}

// The norm of the row to `to`; `raw`, `weight`: the thread's eight neighbouring values.
__device__ __forceinline__ void norm_row(const uint4& raw, const uint4& weight, float eps, RowInput& to) {
  static_assert(row_shape::kHidden == 8 * kRowThreads);
  const int i = threadIdx.x;
  float x[8], sum = 0.f;
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w}, weights[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
  for (int j = 0; j < 8; ++j) x[j] = j % 2 ? high_bf16(words[j / 2]) : low_bf16(words[j / 2]);
#pragma unroll
  for (int j = 0; j < 8; ++j) sum += x[j] * x[j];
  sum = warp_sum(sum);
  if (i % 32 == 0) to.part[i / 32] = sum;
  row_sync();
  float total = 0.f;
#pragma unroll
  for (int w = 0; w < kRowWarps; ++w) total += to.part[w];
  const float scale = 1.f / sqrtf(total / static_cast<float>(row_shape::kHidden) + eps);
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float w = j % 2 ? high_bf16(weights[j / 2]) : low_bf16(weights[j / 2]);
    x[j] = x[j] * scale * (1.f + w);
  }
  store<8>(to.values + i * 8, x);
  put_fp8<16>(x, Fp8Rows{to.e4m3, to.scale, 1, row_shape::kHidden, 1}, 0, i * 8);
  row_sync();
}

}  // namespace hylas::cuda
