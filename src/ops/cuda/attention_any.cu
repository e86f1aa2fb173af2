// Attention in f32 over blocks of 64 positions in ascending order: a query's arithmetic is the same whether its token
// is decoded alone or prefilled among others. A block has one kv head and up to 32 (token, head) pairs, a warp four.
#include "ops/cuda/attention.h"
#include "ops/cuda/element.cuh"
#include "ops/cuda/row_tile.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kKeys = 64;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kEach = kGroupMax / kWarps;  // pairs of a warp
constexpr int kDimMax = 256;
constexpr int kStride = kDimMax + 4;
constexpr int kColumns = kDimMax / 32;

struct Shared {
  float query[kGroupMax][kStride];
  float block[kKeys][kStride];  // keys, then values
  float weight[kGroupMax][kKeys];
};

// Positions [block, block + 64) of one kv head as floats; zeros from `end` on.
template <class K>
__device__ void load_block(const AttentionArgs& args, const void* pages, int row, int kv_head, int block, int end,
                           Shared& s) {
  const BatchView& batch = args.batch;
  const int32_t* table = batch.page_table + row * batch.page_table_stride;
  for (int i = threadIdx.x; i < kKeys * args.head_dim; i += kThreads) {
    const int key = i / args.head_dim, d = i % args.head_dim, position = block + key;
    float value = 0.f;
    if (position < end) {
      const int64_t offset =
          table[position / batch.page_size] * args.page_stride +
          (static_cast<int64_t>(kv_head) * batch.page_size + position % batch.page_size) * args.head_dim;
      value = to_f32(static_cast<const K*>(pages)[offset + d]);
    }
    s.block[key][d] = value;
  }
}

struct Running {
  float highest = -INFINITY;
  float total = 0.f;
  float sum[kColumns] = {};
};

// Scores of one query over the block, as weights relative to its highest score so far; `seen` keys are visible.
__device__ void weigh(const AttentionArgs& args, int pair, int seen, Shared& s, Running& running) {
  const int lane = threadIdx.x % 32;
  float score[2] = {};
  for (int d = 0; d < args.head_dim; d += 4) {
    const float4 q = *reinterpret_cast<const float4*>(&s.query[pair][d]);
    for (int i = 0; i < 2; ++i) {
      const float4 k = *reinterpret_cast<const float4*>(&s.block[lane + 32 * i][d]);
      score[i] = fmaf(q.x, k.x, fmaf(q.y, k.y, fmaf(q.z, k.z, fmaf(q.w, k.w, score[i]))));
    }
  }
  for (int i = 0; i < 2; ++i) {
    if (lane + 32 * i >= seen) score[i] = -INFINITY;
  }
  float highest = fmaxf(running.highest, fmaxf(score[0], score[1]));
  for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
  const float keep = expf(running.highest - highest);  // 0 in the first block
  running.highest = highest;
  float total = 0.f;
  for (int i = 0; i < 2; ++i) {
    const float weight = expf(score[i] - highest);
    s.weight[pair][lane + 32 * i] = weight;
    total += weight;
  }
  running.total = running.total * keep + warp_sum(total);
  for (float& value : running.sum) value *= keep;
}

template <class T, class K>
__global__ void __launch_bounds__(kThreads) attention_any_kernel(AttentionArgs args, int first_row, int tile_tokens) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& s = *reinterpret_cast<Shared*>(memory);
  const BatchView& batch = args.batch;
  const RowTile tile = find_row_tile(batch.row_begin, first_row, batch.rows, tile_tokens, 0, blockIdx.x);
  if (tile.row < 0 || batch.state_write[tile.row] < 0) return;
  const int kv_head = blockIdx.y, group = args.heads / args.kv_heads, dim = args.head_dim;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int begin = batch.row_begin[tile.row] + tile.index * tile_tokens;
  const int tokens = min(tile_tokens, batch.row_begin[tile.row + 1] - begin);
  // Position of the tile's first token.
  const int position = batch.kv_len[tile.row] - (batch.row_begin[tile.row + 1] - begin);
  const int pairs = tokens * group, end = position + tokens;
  for (int i = threadIdx.x; i < pairs * dim; i += kThreads) {
    const int pair = i / dim, d = i % dim;
    const int64_t at = (begin + pair / group) * args.q.stride + (kv_head * group + pair % group) * dim + d;
    s.query[pair][d] = to_f32(static_cast<const T*>(args.q.data)[at]) * args.scale;
  }
  Running running[kEach];
  for (int block = 0; block < end; block += kKeys) {
    __syncthreads();
    load_block<K>(args, args.k_pages, tile.row, kv_head, block, end, s);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int pair = warp * kEach + i, seen = position + pair / group + 1 - block;
      if (pair < pairs && seen > 0) weigh(args, pair, seen, s, running[i]);
    }
    __syncthreads();
    load_block<K>(args, args.v_pages, tile.row, kv_head, block, end, s);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int pair = warp * kEach + i, seen = min(position + pair / group + 1 - block, kKeys);
      if (pair >= pairs) continue;
      for (int key = 0; key < seen; ++key) {
        const float weight = s.weight[pair][key];
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          if (lane + 32 * c < dim) running[i].sum[c] = fmaf(weight, s.block[key][lane + 32 * c], running[i].sum[c]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int pair = warp * kEach + i;
    if (pair >= pairs) continue;
    const int64_t t = begin + pair / group;
    const int head = kv_head * group + pair % group;
    const T* gate = static_cast<const T*>(args.qg.data) + t * args.qg.stride + (2 * head + 1) * dim;
    T* out = static_cast<T*>(args.out.data) + t * args.out.stride + head * dim;
    for (int c = 0; c < kColumns; ++c) {
      const int d = lane + 32 * c;
      if (d < dim) out[d] = from_f32<T>(running[i].sum[c] / running[i].total * sigmoid(to_f32(gate[d])));
    }
  }
}

}  // namespace

void attention_any(const AttentionArgs& args, int first_row, Stream stream) {
  const int tile_tokens = kGroupMax / (args.heads / args.kv_heads);
  const int tiles = row_tiles_max(args.batch, first_row, tile_tokens);
  if (tiles == 0) return;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(args.kv_heads));
  with_f32_bf16(args.q.dtype, [&]<class T>(T) {
    with_kv_type(args.kv_dtype, [&]<class K>(K) {
      check(
          cudaFuncSetAttribute(attention_any_kernel<T, K>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared)),
          "attention (shared memory)");
      attention_any_kernel<T, K><<<grid, kThreads, sizeof(Shared), stream>>>(args, first_row, tile_tokens);
    });
  });
  check_launch("attention");
}

}  // namespace hylas::cuda
