// A block has 16 outputs, or twice that, and eight warps that share K in whole blocks of 128 inputs, which are those of
// the scales. A lane holds its weights of the first blocks of K in registers before x is there, so that a matrix is on
// its way while the kernel before this one ends. The weights are the instruction's 16 rows, x its 8 columns.
#include "ops/cuda/gemm_fp8_rows.h"

#include <algorithm>

#include "ops/cuda/e4m3.cuh"
#include "ops/cuda/gemm_small.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kDepth = 128;
constexpr int64_t kMultiprocessors = 132;

template <int kRows_, int kGroups_, int kAhead_, int kBlocks_, bool kPaired_ = false>
struct Shape {
  static constexpr int kRows = kRows_;      // at most so many rows: 1, 2, 4, 8 or 16
  static constexpr int kGroups = kGroups_;  // instructions side by side: of 16 outputs, or of 8 of two matrices
  static constexpr int kAhead = kAhead_;    // blocks of K that a warp has in its registers
  static constexpr int kBlocks = kBlocks_;  // of a multiprocessor, so many at least
  static constexpr bool kPaired = kPaired_;
  static constexpr int kMatrices = kPaired ? 2 : 1;
  static constexpr int kColumns = 16 * kGroups, kOutputs = kColumns / kMatrices;
  static constexpr int kHalves = kRows > 8 ? 2 : 1;  // of 8 rows
  // Up to four rows are quantized by all lanes together and exchanged, more by the lanes that want them.
  static constexpr bool kExchanged = kRows < 8;
  static constexpr int kLanes = kExchanged ? 32 / kRows : 4;  // of a row
  static constexpr int kPairs = kDepth / kLanes / 2;          // of its inputs in a lane
  static constexpr int kXAhead = kExchanged ? kAhead : 1;     // blocks of K whose x is fetched at once
};

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
        at[n][high] = static_cast<const unsigned char*>(weight.data) + row * weight.stride + block * kDepth + t * 16;
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
        for (int c = 0; c < 2; ++c) to.chunk[n][high][c] = fetch(at[n][high] + step * (kWarps * kDepth) + c * 64);
      }
    }
#pragma unroll
    for (int i = 0; i < S::kMatrices; ++i) to.scale[i] = scale[i][step * kWarps];
  }
  __device__ __forceinline__ void advance(int steps) {
#pragma unroll
    for (int n = 0; n < S::kGroups; ++n) {
      at[n][0] += steps * (kWarps * kDepth);
      at[n][1] += steps * (kWarps * kDepth);
    }
#pragma unroll
    for (int i = 0; i < S::kMatrices; ++i) scale[i] += steps * kWarps;
  }
};

// A lane's part of x of a block of K as it lies in memory: neighbouring inputs of a row, or the lane's own two chunks
// of row g (and g + 8).
template <class S>
struct Rows {
  using Part = uint32_t[S::kHalves][S::kPairs];
  const Bf16* at[S::kHalves];

  __device__ Rows(const Product& p, int block) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      const int64_t row = min(static_cast<int64_t>(lane / S::kLanes + 8 * half), p.rows - 1);
      at[half] = static_cast<const Bf16*>(p.x.data) + row * p.x.stride + block * kDepth +
                 lane % S::kLanes * (S::kExchanged ? 2 * S::kPairs : 16);
    }
  }
  __device__ __forceinline__ void take(int step, Part& to) const {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      const Bf16* from = at[half] + step * (kWarps * kDepth);
      if constexpr (S::kPairs == 2) {
        const uint2 two = *reinterpret_cast<const uint2*>(from);
        to[half][0] = two.x, to[half][1] = two.y;
      } else {
#pragma unroll
        for (int i = 0; i < S::kPairs; i += 4) {
          const int input = S::kExchanged ? 2 * i : i / 8 * 64 + i % 8 * 2;
          const uint4 four = *reinterpret_cast<const uint4*>(from + input);
          to[half][i] = four.x, to[half][i + 1] = four.y, to[half][i + 2] = four.z, to[half][i + 3] = four.w;
        }
      }
    }
  }
  __device__ __forceinline__ void advance(int steps) {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) at[half] += steps * (kWarps * kDepth);
  }
};

// A block of K of all rows in e4m3: a lane's chunks t and t + 4 of row g (and g + 8), and the scales of the rows that
// its sums are of.
template <class S>
struct Quantized {
  uint32_t word[S::kHalves][2][4];  // [half][chunk]
  float scale[S::kHalves][2];

  // `memory`: [rows][128] bytes of the warp's own, for the exchange.
  __device__ __forceinline__ Quantized(const typename Rows<S>::Part& x, unsigned char* memory) {
    const int lane = threadIdx.x % 32, t = lane % 4;
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      const GroupScale group(most_of(x[half]));
      if constexpr (S::kExchanged) {
        exchange(group, x[half], memory);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) word[half][i / 4][i % 4] = group.of_pairs(x[half][2 * i], x[half][2 * i + 1]);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int from = (2 * t + i) % S::kRows * S::kLanes;
        scale[half][i] = S::kRows == 1 ? group.scale : __shfl_sync(~0u, group.scale, from);
      }
    }
  }

 private:
  // Of the magnitudes of a row's 128 inputs.
  static __device__ __forceinline__ float most_of(const uint32_t (&x)[S::kPairs]) {
    uint32_t most = larger_magnitudes(x[0], x[1]);
#pragma unroll
    for (int i = 2; i < S::kPairs; ++i) most = larger_magnitudes(most, x[i]);
    most = max(most << 16, most & 0xffff0000u);
    if constexpr (S::kLanes == 32) {
      most = __reduce_max_sync(~0u, most);
    } else {
#pragma unroll
      for (int offset = S::kLanes / 2; offset > 0; offset /= 2) most = max(most, __shfl_xor_sync(~0u, most, offset));
    }
    return __uint_as_float(most);
  }

  // Chunks of odd rows change places, so that reads of neighbouring rows do not meet.
  static __device__ __forceinline__ int place(int row, int byte) { return row * kDepth + (byte ^ (row & 1) << 6); }

  __device__ __forceinline__ void exchange(const GroupScale& group, const uint32_t (&x)[S::kPairs],
                                           unsigned char* memory) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    __syncwarp();  // the block before this one has been read
    auto* to = reinterpret_cast<uint32_t*>(memory + place(lane / S::kLanes, lane % S::kLanes * (2 * S::kPairs)));
#pragma unroll
    for (int i = 0; i < S::kPairs / 2; ++i) to[i] = group.of_pairs(x[2 * i], x[2 * i + 1]);
    __syncwarp();
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint4 chunk = *reinterpret_cast<const uint4*>(memory + place(g % S::kRows, (c * 4 + t) * 16));
      word[0][c][0] = chunk.x, word[0][c][1] = chunk.y, word[0][c][2] = chunk.z, word[0][c][3] = chunk.w;
    }
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
        b[half][1] = e4m3_pair_to_f16(x.word[half][c][j] >> 16);
      }
#pragma unroll
      for (int n = 0; n < S::kGroups; ++n) {
        const uint32_t low = word(w.chunk[n][0][c], j), high = word(w.chunk[n][1][c], j);
        const uint32_t a0 = e4m3_pair_to_f16(low), a1 = e4m3_pair_to_f16(high), a2 = e4m3_pair_to_f16(low >> 16),
                       a3 = e4m3_pair_to_f16(high >> 16);
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
    for (int i = 1; i < kWarps; ++i) all += sums[i][row][column];
    return all;
  };
  for (int i = threadIdx.x; i < S::kRows * S::kOutputs; i += 32 * kWarps) {
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
__global__ void __launch_bounds__(32 * kWarps, S::kBlocks)
    gemm_fp8_rows_kernel(const __grid_constant__ Product p, const __grid_constant__ Product beside,
                         int beside_columns) {
  __shared__ float sums[std::max(kWarps * S::kRows * (S::kColumns + 1), kSmallSums)];
  __shared__ __align__(16) unsigned char exchanged[kWarps][S::kExchanged ? S::kRows * kDepth : 16];
  const int column = static_cast<int>(blockIdx.x);
  if (column < beside_columns) return small_tile<4, 2>(beside, column, 0, sums);
  const MatrixTile tile(p, column - beside_columns, S::kOutputs);
  // The warp's number as a value that the compiler knows to be one for all lanes; its blocks of K: every eighth.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int steps = (static_cast<int>(p.inputs / kDepth) - warp + kWarps - 1) / kWarps;
  Columns<S> columns(tile, p.other, warp);
  Weights<S> weights[S::kAhead];
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i) {
    if (i < steps) columns.take(i, weights[i]);
  }
  follow();
  Rows<S> rows(p, warp);
  float sum[S::kGroups][S::kHalves][4] = {};
  for (int left = steps; left > 0; left -= S::kAhead) {
    typename Rows<S>::Part x[S::kAhead];
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
  launch_following(gemm_fp8_rows_kernel<S>, static_cast<unsigned>(columns + matrix_tiles(p, S::kOutputs)), 32 * kWarps,
                   0, stream, "linear (fp8, few rows)", p, beside, static_cast<int>(columns));
}

// Tiles that all rounds of blocks have room for, with `blocks` of `each` on a multiprocessor.
constexpr int64_t room(int64_t tiles, int64_t blocks, int64_t each) {
  const int64_t round = kMultiprocessors * blocks * each;
  return (tiles + round - 1) / round * round;
}

// As measured best; an output's bits do not depend on it. Few outputs: all blocks of K that a warp has are under way at
// once. Of one row blocks are small and many, unless their last round leaves more of the GPU idle than that of others.
template <int kRows, bool kPaired>
void choose(const Product& p, const Product& beside, Stream stream) {
  constexpr int kNarrowBlocks = kRows > 4 ? 1 : 2;
  const int64_t tiles = matrix_tiles(p, kPaired ? 8 : 16);
  if (tiles <= kMultiprocessors * kNarrowBlocks) {
    return launch<Shape<kRows, 1, 4, kNarrowBlocks, kPaired>>(p, beside, stream);
  }
  if constexpr (kRows == 1) {
    if (room(tiles, 5, 1) < room(tiles, 3, 2)) return launch<Shape<1, 1, 1, 5, kPaired>>(p, beside, stream);
    return launch<Shape<1, 2, 1, 3, kPaired>>(p, beside, stream);
  }
  launch<Shape<kRows, 2, 1, 2, kPaired>>(p, beside, stream);
}

template <bool kPaired>
void choose_rows(const Product& p, const Product& beside, Stream stream) {
  if (p.rows == 1) return choose<1, kPaired>(p, beside, stream);
  if (p.rows == 2) return choose<2, kPaired>(p, beside, stream);
  if (p.rows <= 4) return choose<4, kPaired>(p, beside, stream);
  if (p.rows <= 8) return choose<8, kPaired>(p, beside, stream);
  choose<16, kPaired>(p, beside, stream);
}

}  // namespace

bool gemm_fp8_rows_takes(const Product& p) {
  const auto at_16 = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const auto fits = [&](const WeightView& weight) {
    return weight.stride % 16 == 0 && at_16(weight.data) && weight.scale;
  };
  return p.x.dtype == DType::kBF16 && p.weight_dtype == DType::kF8E4M3 && !p.weights && !p.x_index && !p.out_index &&
         p.parts == 0 && p.rows > 0 && p.rows <= kFp8RowsMax && p.outputs > 0 && p.inputs > 0 &&
         p.inputs % kDepth == 0 && p.x.stride % 8 == 0 && at_16(p.x.data) && fits(p.weight) &&
         (!p.paired || fits(p.other));
}

void gemm_fp8_rows(const Product& p, const Product& beside, Stream stream) {
  p.paired ? choose_rows<true>(p, beside, stream) : choose_rows<false>(p, beside, stream);
}

}  // namespace hylas::cuda
