#pragma once
// The side of the rows in gemm_fp8_rows.cu: their blocks of K in e4m3, quantized here or before.
#include "ops/cuda/e4m3.cuh"
#include "ops/cuda/gemm.h"

namespace hylas::cuda {

constexpr int kRowWarps = 8;
constexpr int kRowDepth = 128;

template <int kRows_, int kGroups_, int kAhead_, int kBlocks_, bool kPaired_, bool kReady_>
struct RowsShape {
  static constexpr int kRows = kRows_;      // at most so many rows: 1, 2, 4, 8 or 16
  static constexpr int kGroups = kGroups_;  // instructions side by side: of 16 outputs, or of 8 of two matrices
  static constexpr int kAhead = kAhead_;    // blocks of K that a warp has in its registers
  static constexpr int kBlocks = kBlocks_;  // of a multiprocessor, so many at least
  static constexpr bool kPaired = kPaired_;
  static constexpr bool kReady = kReady_;  // the rows come quantized
  static constexpr int kMatrices = kPaired ? 2 : 1;
  static constexpr int kColumns = 16 * kGroups, kOutputs = kColumns / kMatrices;
  static constexpr int kHalves = kRows > 8 ? 2 : 1;  // of 8 rows
  // Up to four rows are quantized by all lanes together and exchanged, more by the lanes that want them.
  static constexpr bool kExchanged = kRows < 8;
  static constexpr int kLanes = kExchanged ? 32 / kRows : 4;  // of a row
  static constexpr int kPairs = kRowDepth / kLanes / 2;       // of its inputs in a lane
  static constexpr int kXAhead = kExchanged ? kAhead : 1;     // blocks of K whose x is fetched at once
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
      at[half] = static_cast<const Bf16*>(p.x.data) + row * p.x.stride + block * kRowDepth +
                 lane % S::kLanes * (S::kExchanged ? 2 * S::kPairs : 16);
    }
  }
  __device__ __forceinline__ void take(int step, Part& to) const {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      const Bf16* from = at[half] + step * (kRowWarps * kRowDepth);
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
    for (int half = 0; half < S::kHalves; ++half) at[half] += steps * (kRowWarps * kRowDepth);
  }
};

// The same of rows that come quantized: the lane's own two chunks of row g (and g + 8), and the scales of the rows that
// its sums are of.
template <class S>
struct ReadyRows {
  struct Part {
    uint4 chunk[S::kHalves][2];
    float scale[S::kHalves][2];
  };
  const unsigned char* at[S::kHalves];
  const float* scale[S::kHalves][2];
  int64_t scale_step;

  __device__ ReadyRows(const Product& p, int block) : scale_step(kRowWarps * p.x_fp8.scale_stride) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, last = static_cast<int>(p.rows) - 1;
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      at[half] = static_cast<const unsigned char*>(p.x_fp8.data) + min(g + 8 * half, last) * p.inputs +
                 block * kRowDepth + t * 16;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scale[half][i] = p.x_fp8.scale + block * p.x_fp8.scale_stride + min(2 * t + i + 8 * half, last);
      }
    }
  }
  __device__ __forceinline__ void take(int step, Part& to) const {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        to.chunk[half][c] = *reinterpret_cast<const uint4*>(at[half] + step * (kRowWarps * kRowDepth) + c * 64);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) to.scale[half][i] = scale[half][i][step * scale_step];
    }
  }
  __device__ __forceinline__ void advance(int steps) {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
      at[half] += steps * (kRowWarps * kRowDepth);
#pragma unroll
      for (int i = 0; i < 2; ++i) scale[half][i] += steps * scale_step;
    }
  }
};

// A block of K of all rows in e4m3: a lane's chunks t and t + 4 of row g (and g + 8), and the scales of the rows that
// its sums are of.
template <class S>
struct Quantized {
  uint32_t word[S::kHalves][2][4];  // [half][chunk]
  float scale[S::kHalves][2];

  __device__ __forceinline__ Quantized(const typename ReadyRows<S>::Part& x, const unsigned char*) {
#pragma unroll
    for (int half = 0; half < S::kHalves; ++half) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const uint4& chunk = x.chunk[half][c];
        word[half][c][0] = chunk.x, word[half][c][1] = chunk.y, word[half][c][2] = chunk.z, word[half][c][3] = chunk.w;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) scale[half][i] = x.scale[half][i];
    }
  }
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
  static __device__ __forceinline__ int place(int row, int byte) { return row * kRowDepth + (byte ^ (row & 1) << 6); }

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

}  // namespace hylas::cuda
