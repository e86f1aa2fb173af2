// Prefill rows: a block has 128 (token, head) pairs of one kv head, a warp 16; blocks of 64 keys in ascending order,
// the next one's copy beside the arithmetic.
#include "ops/cuda/attention_bf16.cuh"
#include "ops/cuda/row_tile.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kPairs = 16 * kWarps;

// What this lane has of row r of the warp: its head of token t, times the gate.
__device__ __forceinline__ void write_out(const AttentionArgs& args, int64_t t, int head, int r,
                                          const WarpAttention& w) {
  const Bf16* gate = static_cast<const Bf16*>(args.qg.data) + t * args.qg.stride + (2 * head + 1) * kDim;
  Bf16* out = static_cast<Bf16*>(args.out.data) + t * args.out.stride + head * kDim;
  const float inverse = 1.f / w.total[r];
#pragma unroll
  for (int c = 0; c < 4; ++c) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = column_of(c, e, i);
        out[d] = from_f32<Bf16>(w.sum[c][e][2 * r + i] * inverse * sigmoid(to_f32(gate[d])));
      }
    }
  }
}

template <class K>
__global__ void __launch_bounds__(kThreads, 1) attention_prefill_kernel(AttentionArgs args, int tile_tokens) {
  extern __shared__ __align__(16) unsigned char memory[];
  const BatchView& batch = args.batch;
  // The last tiles of a row have the most keys: they begin first.
  const RowTile tile =
      find_row_tile(batch.row_begin, batch.decode_rows, batch.rows, tile_tokens, 0, gridDim.x - 1 - blockIdx.x);
  if (tile.row < 0 || batch.state_write[tile.row] < 0) return;
  const int kv_head = blockIdx.y, group = args.heads / args.kv_heads;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
  const int begin = batch.row_begin[tile.row] + tile.index * tile_tokens;
  const int tokens = min(tile_tokens, batch.row_begin[tile.row + 1] - begin);
  const int position = batch.kv_len[tile.row] - (batch.row_begin[tile.row + 1] - begin), end = position + tokens;
  const Bf16* query[2];
  int token[2], head[2];
  for (int r = 0; r < 2; ++r) {
    const int pair = 16 * warp + g + 8 * r;
    token[r] = pair / group;
    head[r] = kv_head * group + pair % group;
    query[r] = token[r] < tokens
                   ? static_cast<const Bf16*>(args.q.data) + (begin + token[r]) * args.q.stride + head[r] * kDim
                   : nullptr;
  }
  const auto keys = [&](int block) {
    return Block<K>{reinterpret_cast<uint4*>(memory + block / kBlockKeys % 2 * 2 * Block<K>::kBytes)};
  };
  const auto values = [&](int block) { return Block<K>{keys(block).memory + Block<K>::kBytes / 16}; };
  const auto start = [&](int block) {
    if (block < end) {
      const int here = min(end - block, kBlockKeys);
      keys(block).start(block_at<K>(args, args.k_pages, tile.row, kv_head, block), here, threadIdx.x, kThreads);
      values(block).start(block_at<K>(args, args.v_pages, tile.row, kv_head, block), here, threadIdx.x, kThreads);
    }
    commit_copies();
  };
  WarpAttention w;
  // What the warp's last pair sees.
  const int warp_end = position + (16 * warp + 15) / group + 1;
  start(0);
  for (int block = 0; block < end; block += kBlockKeys) {
    start(block + kBlockKeys);
    wait_copies<1>();
    __syncthreads();
    if (block < warp_end) {
      float score[8][4] = {};
      block_scores(query[0], query[1], keys(block), score);
      const int seen[2] = {position + token[0] + 1 - block, position + token[1] + 1 - block};
      block_weights(seen, args.scale, score, w);
      block_values(values(block), min(end - block, kBlockKeys), score, w);
    }
    __syncthreads();
  }
  finish_totals(w);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (query[r]) write_out(args, begin + token[r], head[r], r, w);
  }
}

template <class K>
void launch(const AttentionArgs& args, int tile_tokens, const dim3& grid, Stream stream) {
  constexpr int kBytes = 4 * Block<K>::kBytes;
  check(cudaFuncSetAttribute(attention_prefill_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "attention (shared memory)");
  attention_prefill_kernel<K><<<grid, kThreads, kBytes, stream>>>(args, tile_tokens);
}

}  // namespace

void attention_prefill(const AttentionArgs& args, Stream stream) {
  const int tile_tokens = kPairs / (args.heads / args.kv_heads);
  const int tiles = row_tiles_max(args.batch, args.batch.decode_rows, tile_tokens);
  if (tiles == 0) return;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(args.kv_heads));
  if (args.kv_dtype == DType::kF8E4M3) {
    launch<F8>(args, tile_tokens, grid, stream);
  } else {
    launch<Bf16>(args, tile_tokens, grid, stream);
  }
  check_launch("attention (prefill)");
}

}  // namespace hylas::cuda
