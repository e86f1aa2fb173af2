// A block has 16 outputs, or twice that, and eight warps that share K in whole blocks of 128 inputs, which are those of
// the scales. A lane holds its weights of the first blocks of K in registers before x is there, so that a matrix is on
// its way while the kernel before this one ends. The weights are the instruction's 16 rows, x its 8 columns.
#include "ops/cuda/gemm_fp8_rows.h"

#include <algorithm>

#include "ops/cuda/gemm_small.cuh"
#include "ops/cuda/row_blocks.cuh"

namespace hylas::cuda {
namespace {

constexpr int64_t kMultiprocessors = 132;

// Past the first-level cache: no other block reads it. Not ld.nc, which the assembler moves behind follow().
__device__ __forceinline__ uint4 fetch(const unsigned char* from) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

// A lane's weights of a block of K: for lane 4 g + t rows g and g + 8 of the instruction, chunks t and t + 4 of 16
// inputs each. The sum over K does not ask for an order, so 4 neighbouring inputs serve as the instruction's 2t, 2t +
// 1, 2t + 8, 2t + 9, on both sides alike.
template <class S>
struct Weights {
  uint4 chunk[S::kGroups][2][2];  // [group][row g or g + 8][chunk]
  float scale[S::kMatrices];
};

template <class S>
struct Columns {
  const unsigned char* at[S::kGroups][2];
  const float* scale[S::kMatrices];

  __device__ Columns(const MatrixTile& tile, const WeightView& other, int block) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < S::kGroups; ++n) {
#pragma unroll
      for (int high = 0; high < 2; ++high) {
        const WeightView& weight = S::kPaired && high ? other : tile.weight;
        const int within = S::kPaired ? n * 8 + g : n * 16 + high * 8 + g;
        // What is not there is computed over what is, and not stored.
        const int64_t row = tile.output + min(within, tile.outputs - 1);
        at[n][high] = static_cast<const unsigned char*>(weight.data) + row * weight.stride + block * kRowDepth + t * 16;
      }
    }
#pragma unroll
    for (int i = 0; i < S::kMatrices; ++i) {
      const WeightView& weight = i ? other : tile.weight;
      scale[i] = weight.scale + tile.output / 128 * weight.scale_stride + block;
    }
  }
  // The warp's block so many further on.
  __device__ __forceinline__ void take(int step, Weights<S>& to) const {
#pragma unroll
    for (int n = 0; n < S::kGroups; ++n) {
#pragma unroll
      for (int high = 0; high < 2; ++high) {
#pragma unroll
        for (int c = 0; c < 2; ++c) to.chunk[n][high][c] = fetch(at[n][high] + step * (kRowWarps * kRowDepth) + c * 64);
      }
    }
#pragma unroll
    for (int i = 0; i < S::kMatrices; ++i) to.scale[i] = scale[i][step * kRowWarps];
  }
  __device__ __forceinline__ void advance(int steps) {
#pragma unroll
    for (int n = 0; n < S::kGroups; ++n) {
      at[n][0] += steps * (kRowWarps * kRowDepth);
      at[n][1] += steps * (kRowWarps * kRowDepth);
    }
#pragma unroll
    for (int i = 0; i < S::kMatrices; ++i) scale[i] += steps * kRowWarps;
  }
};

__device__ __forceinline__ uint32_t word(const uint4& chunk, int i) {
  return i == 0 ? chunk.x : i == 1 ? chunk.y : i == 2 ? chunk.z : chunk.w;
}

// sum += a block of K.
template <class S>
__device__ __forceinline__ void multiply(const Weights<S>& w, const Quantized<S>& x,
                                         float (&sum)[S::kGroups][S::kHalves][4]) {
  float part[2][S::kGroups][S::kHalves][4] = {};  // of each chunk, so that one does not wait for the other
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      uint32_t b[S::kHalves][2];
#pragma unroll
      for (int half = 0; half < S::kHalves; ++half) {
        b[half][0] = e4m3_pair_to_f16(x.word[half][c][j]);
        b[half][1] = e4m3_high_pair_to_f16(x.word[half][c][j]);
      }
#pragma unroll
      for (int n = 0; n < S::kGroups; ++n) {
        const uint32_t low = word(w.chunk[n][0][c], j), high = word(w.chunk[n][1][c], j);
        const uint32_t a0 = e4m3_pair_to_f16(low), a1 = e4m3_pair_to_f16(high), a2 = e4m3_high_pair_to_f16(low),
                       a3 = e4m3_high_pair_to_f16(high);
#pragma unroll
        for (int half = 0; half < S::kHalves; ++half) mma_f16(part[c][n][half], a0, a1, a2, a3, b[half][0], b[half][1]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < S::kGroups; ++n) {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {  // outputs g, g, g + 8, g + 8 of rows 2t, 2t + 1, 2t, 2t + 1
        const float scale = w.scale[S::kPaired ? j / 2 : 0] * x.scale[half][j % 2];
        sum[n][half][j] = fmaf(scale, part[0][n][half][j] + part[1][n][half][j], sum[n][half][j]);
      }
    }
  }
}

// The warps' sums, added in their order.
template <class S>
__device__ void put(const Product& p, const MatrixTile& tile, const float (&sum)[S::kGroups][S::kHalves][4],
                    float (*sums)[S::kRows][S::kColumns + 1]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < S::kGroups; ++n) {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = half * 8 + 2 * t + j % 2;
        if (row < S::kRows) sums[warp][row][n * 16 + j / 2 * 8 + g] = sum[n][half][j];
      }
    }
  }
  __syncthreads();
  const auto total = [&](int row, int column) {
    float all = sums[0][row][column];
#pragma unroll
    for (int i = 1; i < kRowWarps; ++i) all += sums[i][row][column];
    return all;
  };
  for (int i = threadIdx.x; i < S::kRows * S::kOutputs; i += 32 * kRowWarps) {
    const int row = i / S::kOutputs, output = i % S::kOutputs;
    if (row >= p.rows || output >= tile.outputs) continue;
    const int column = S::kPaired ? output / 8 * 16 + output % 8 : output;
    float value = total(row, column);
    if constexpr (S::kPaired) {
      value = silu(to_f32(from_f32<Bf16>(value))) * to_f32(from_f32<Bf16>(total(row, column + 8)));
    }
    const int64_t at = row * tile.out.stride + tile.output + output;
    if (tile.out.dtype == DType::kF32) {
      static_cast<float*>(tile.out.data)[at] = value;
    } else {
      static_cast<Bf16*>(tile.out.data)[at] = from_f32<Bf16>(value);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(32 * kRowWarps, S::kBlocks)
    gemm_fp8_rows_kernel(const __grid_constant__ Product p, const __grid_constant__ Product beside,
                         int beside_columns) {
  __shared__ float sums[std::max(kRowWarps * S::kRows * (S::kColumns + 1), kSmallSums)];
  __shared__ __align__(16) unsigned char exchanged[kRowWarps][S::kExchanged ? S::kRows * kRowDepth : 16];
  const int column = static_cast<int>(blockIdx.x);
  if (column < beside_columns) return small_tile<4, 2>(beside, column, 0, sums);
  const MatrixTile tile(p, column - beside_columns, S::kOutputs);
  // The warp's number as a value that the compiler knows to be one for all lanes; its blocks of K: every eighth.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int steps = (static_cast<int>(p.inputs / kRowDepth) - warp + kRowWarps - 1) / kRowWarps;
  Columns<S> columns(tile, p.other, warp);
  Weights<S> weights[S::kAhead];
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i) {
    if (i < steps) columns.take(i, weights[i]);
  }
  follow();
  using X = std::conditional_t<S::kReady, ReadyRows<S>, Rows<S>>;
  X rows(p, warp);
  float sum[S::kGroups][S::kHalves][4] = {};
  for (int left = steps; left > 0; left -= S::kAhead) {
    typename X::Part x[S::kAhead];
#pragma unroll
    for (int i = 0; i < S::kXAhead; ++i) {
      if (i < left) rows.take(i, x[i]);
    }
#pragma unroll
    for (int i = 0; i < S::kAhead; ++i) {
      if (i >= left) break;
      if (i + S::kXAhead < S::kAhead && i + S::kXAhead < left) rows.take(i + S::kXAhead, x[i + S::kXAhead]);
      const Quantized<S> quantized(x[i], exchanged[warp]);
      multiply<S>(weights[i], quantized, sum);
      if (i + S::kAhead < left) columns.take(i + S::kAhead, weights[i]);
    }
    columns.advance(S::kAhead);
    rows.advance(S::kAhead);
  }
  put<S>(p, tile, sum, reinterpret_cast<float(*)[S::kRows][S::kColumns + 1]>(sums));
}

template <class S>
void launch(const Product& p, const Product& beside, Stream stream) {
  const int64_t columns = beside.parts > 0 ? matrix_tiles(beside, kSmallOutputs) : 0;
  launch_following(gemm_fp8_rows_kernel<S>, static_cast<unsigned>(columns + matrix_tiles(p, S::kOutputs)),
                   32 * kRowWarps, 0, stream, "linear (fp8, few rows)", p, beside, static_cast<int>(columns));
}

// Tiles that all rounds of blocks have room for, with `blocks` of `each` on a multiprocessor.
constexpr int64_t room(int64_t tiles, int64_t blocks, int64_t each) {
  const int64_t round = kMultiprocessors * blocks * each;
  return (tiles + round - 1) / round * round;
}

// As measured best; an output's bits do not depend on it. Few outputs: all blocks of K that a warp has are under way at
// once. Of one row blocks are small and many, unless their last round leaves more of the GPU idle than that of others.
template <int kRows, bool kPaired, bool kReady>
void choose(const Product& p, const Product& beside, Stream stream) {
  constexpr int kNarrowBlocks = kRows > 4 ? 1 : 2;
  const int64_t tiles = matrix_tiles(p, kPaired ? 8 : 16);
  if (tiles <= kMultiprocessors * kNarrowBlocks) {
    return launch<RowsShape<kRows, 1, 4, kNarrowBlocks, kPaired, kReady>>(p, beside, stream);
  }
  if constexpr (kRows == 1) {
    if (room(tiles, 5, 1) < room(tiles, 3, 2)) return launch<RowsShape<1, 1, 1, 5, kPaired, kReady>>(p, beside, stream);
    return launch<RowsShape<1, 2, 1, 3, kPaired, kReady>>(p, beside, stream);
  }
  launch<RowsShape<kRows, 2, 1, 2, kPaired, kReady>>(p, beside, stream);
}

template <bool kPaired>
void choose_rows(const Product& p, const Product& beside, Stream stream) {
  const bool ready = p.x_fp8.data != nullptr;
  if (p.rows == 1) return choose<1, kPaired, false>(p, beside, stream);
  if (p.rows == 2) return choose<2, kPaired, false>(p, beside, stream);
  if (p.rows <= kFp8OwnRowsMax) return choose<4, kPaired, false>(p, beside, stream);
  if (p.rows <= 8)
    return ready ? choose<8, kPaired, true>(p, beside, stream) : choose<8, kPaired, false>(p, beside, stream);
  ready ? choose<16, kPaired, true>(p, beside, stream) : choose<16, kPaired, false>(p, beside, stream);
}

}  // namespace

bool gemm_fp8_rows_takes(const Product& p) {
  const auto at_16 = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const auto fits = [&](const WeightView& weight) {
    return weight.stride % 16 == 0 && at_16(weight.data) && weight.scale;
  };
  return p.x.dtype == DType::kBF16 && p.weight_dtype == DType::kF8E4M3 && !p.weights && !p.x_index && !p.out_index &&
         p.parts == 0 && p.rows > 0 && p.rows <= kFp8RowsMax && p.outputs > 0 && p.inputs > 0 &&
         p.inputs % kRowDepth == 0 && fits(p.weight) && (!p.paired || fits(p.other)) &&
         (p.x_fp8.data ? at_16(p.x_fp8.data) : p.x.stride % 8 == 0 && at_16(p.x.data));
}

void gemm_fp8_rows(const Product& p, const Product& beside, Stream stream) {
  p.paired ? choose_rows<true>(p, beside, stream) : choose_rows<false>(p, beside, stream);
}

}  // namespace hylas::cuda
