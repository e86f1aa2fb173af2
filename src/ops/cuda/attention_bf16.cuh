#pragma once
// One warp's attention over blocks of 64 keys on the tensor cores: 16 query rows of 256 dimensions. Keys and values are
// copied to shared memory as they are; a lane then takes eight neighbouring dimensions at a time, which serve as one
// column of eight instructions (a value's dimensions may come in any order), see block_values: no transposition in
// between.
#include "ops/cuda/attention.h"
#include "ops/cuda/element.cuh"
#include "ops/cuda/mma.cuh"

namespace hylas::cuda {

constexpr int kDim = 256;
constexpr int kBlockKeys = 64;

// Eight neighbouring elements as bf16.
__device__ __forceinline__ uint4 load_8(const Bf16* from) { return *reinterpret_cast<const uint4*>(from); }
__device__ __forceinline__ uint4 load_8(const F8* from) { return e4m3_to_bf16(*reinterpret_cast<const uint2*>(from)); }

// 64 keys or values of one head in shared memory: rows of 16-byte chunks, placed so that a warp's reads meet no bank
// twice.
template <class K>
struct Block {
  static constexpr int kChunks = kDim * static_cast<int>(sizeof(K)) / 16;
  static constexpr int kBytes = kBlockKeys * kChunks * 16;
  uint4* memory;

  static __device__ __forceinline__ int place(int key, int chunk) {
    return key * kChunks + (chunk ^ (((key & 1) << 2) ^ (((key >> 1) & 3) << 1)));
  }
  // Dimensions [8 eighth, 8 eighth + 8) of a key as bf16.
  __device__ __forceinline__ uint4 eight(int key, int eighth) const {
    if constexpr (sizeof(K) == 1) {
      return load_8(reinterpret_cast<const K*>(memory + place(key, eighth / 2)) + eighth % 2 * 8);
    } else {
      return memory[place(key, eighth)];
    }
  }
  // Starts the copy of 64 positions by `threads` threads; from `end` on there are zeros.
  __device__ __forceinline__ void start(const K* from, int end, int thread, int threads) const {
    for (int i = thread; i < kBlockKeys * kChunks; i += threads) {
      const int key = i / kChunks, chunk = i % kChunks;
      copy_async(memory + place(key, chunk), from + (key < end ? key * kDim + chunk * (16 / sizeof(K)) : 0), key < end);
    }
  }
};

// Running softmax of the rows g and g + 8 of a lane 4 g + t. sum[c][e] are the columns 64 c + 8 (2t, 2t + 1) + e.
struct WarpAttention {
  float highest[2] = {-INFINITY, -INFINITY};
  float total[2] = {};  // of this lane's keys alone
  float sum[4][8][4] = {};
};

// score[n] = rows . keys 8 n ..: queries at `low` and `high` (rows g and g + 8; null: a row that is not there).
template <class K>
__device__ __forceinline__ void block_scores(const Bf16* low, const Bf16* high, const Block<K>& keys,
                                             float (&score)[8][4]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll 2
  for (int d = 0; d < kDim; d += 32) {
    const uint4 zero = {};
    const uint4 a = low ? load_8(low + d + 8 * t) : zero, b = high ? load_8(high + d + 8 * t) : zero;
#pragma unroll
    for (int n = 0; n < 8; ++n) mma_32(score[n], a, b, keys.eight(8 * n + g, d / 8 + t));
  }
}

// Scores to weights: keys >= seen[row] do not count.
__device__ __forceinline__ void block_weights(const int (&seen)[2], float scale, float (&score)[8][4],
                                              WarpAttention& w) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float highest = w.highest[r];
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& value = score[n][2 * r + i];
        value = 8 * n + 2 * t + i < seen[r] ? value * scale : -INFINITY;
        highest = fmaxf(highest, value);
      }
    }
    highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
    // A row that has seen nothing yet keeps weights of zero.
    const float base = highest == -INFINITY ? 0.f : highest;
    const float keep = __expf(w.highest[r] - base);
    w.highest[r] = highest;
    w.total[r] *= keep;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& value = score[n][2 * r + i];
        value = __expf(value - base);
        w.total[r] += value;
      }
    }
    if (keep != 1.f) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          w.sum[c][e][2 * r] *= keep;
          w.sum[c][e][2 * r + 1] *= keep;
        }
      }
    }
  }
}

__device__ __forceinline__ uint32_t pack(float first, float second) {
  const __nv_bfloat162 value = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&value);
}

// sum += weights . values; from `end` keys on there is nothing to add. Per 16 keys and 64 dimensions a lane reads
// dimensions 8 g .. 8 g + 7 of keys 2t, 2t + 1, 2t + 8, 2t + 9; instruction e takes dimension 8 g + e as its column g.
template <class K>
__device__ __forceinline__ void block_values(const Block<K>& values, int end, const float (&weight)[8][4],
                                             WarpAttention& w) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    if (16 * kk >= end) break;
    const uint32_t a0 = pack(weight[2 * kk][0], weight[2 * kk][1]), a1 = pack(weight[2 * kk][2], weight[2 * kk][3]);
    const uint32_t a2 = pack(weight[2 * kk + 1][0], weight[2 * kk + 1][1]);
    const uint32_t a3 = pack(weight[2 * kk + 1][2], weight[2 * kk + 1][3]);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      uint32_t key[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int k = 16 * kk + 2 * t + (i & 1) + 8 * (i >> 1);
        const uint4 value = values.eight(k, 8 * c + g);
        key[i][0] = value.x;
        key[i][1] = value.y;
        key[i][2] = value.z;
        key[i][3] = value.w;
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const uint32_t halves = e % 2 ? 0x7632 : 0x5410;
        const uint32_t b0 = __byte_perm(key[0][e / 2], key[1][e / 2], halves);
        const uint32_t b1 = __byte_perm(key[2][e / 2], key[3][e / 2], halves);
        mma_bf16(w.sum[c][e], a0, a1, a2, a3, b0, b1);
      }
    }
  }
}

// The whole totals of the rows.
__device__ __forceinline__ void finish_totals(WarpAttention& w) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    w.total[r] += __shfl_xor_sync(~0u, w.total[r], 1);
    w.total[r] += __shfl_xor_sync(~0u, w.total[r], 2);
  }
}

// Dimension of sum[c][e][2 r + i].
__device__ __forceinline__ int column_of(int c, int e, int i) { return 64 * c + 8 * (2 * (threadIdx.x % 4) + i) + e; }

// First element of a kv head's 64 positions from `position` on, a multiple of 64.
template <class K>
__device__ __forceinline__ const K* block_at(const AttentionArgs& args, const void* pages, int row, int kv_head,
                                             int position) {
  const BatchView& batch = args.batch;
  const int64_t page = batch.page_table[row * batch.page_table_stride + position / batch.page_size];
  return static_cast<const K*>(pages) + page * args.page_stride +
         (static_cast<int64_t>(kv_head) * batch.page_size + position % batch.page_size) * kDim;
}

}  // namespace hylas::cuda
