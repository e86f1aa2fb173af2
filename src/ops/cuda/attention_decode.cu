// One token of each row: a block has one kv head's queries and kSplit positions, each warp 64 of them; a second kernel
// adds the splits in ascending order. The cuts lie at absolute positions, so a row does not depend on the others.
#include "ops/cuda/attention_bf16.cuh"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = kSplit / kBlockKeys;
constexpr int kPairs = 16;

// Of one row, head and split in the workspace: the sum of weighted values, then the highest score and the total.
constexpr int kPartial = kDim + 4;

struct Splits {
  float* partials;  // [rows, heads, splits][kPartial]
  int first_row;
  int splits;
  __device__ float* at(int row, int heads, int head, int split) const {
    return partials + ((static_cast<int64_t>(row - first_row) * heads + head) * splits + split) * kPartial;
  }
};

using Merged = float[kPairs][kDim + 8];

// The warps' sums, each times what keeps of it beside the highest score of all: one warp after the other, a fixed
// order.
__device__ __forceinline__ void merge_warps(const WarpAttention& w, const float (&keep)[2], Merged& merged) {
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
  for (int turn = 0; turn < kWarps; ++turn) {
    if (turn == warp) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& to = merged[g + i / 2 * 8][column_of(c, e, i % 2)];
            const float value = w.sum[c][e][i] * keep[i / 2];
            to = turn == 0 ? value : to + value;
          }
        }
      }
    }
    __syncthreads();
  }
}

template <class K>
__global__ void __launch_bounds__(32 * kWarps) attention_split_kernel(AttentionArgs args, Splits splits) {
  extern __shared__ __align__(16) unsigned char memory[];
  Merged& merged = *reinterpret_cast<Merged*>(memory);  // once the blocks are read
  __shared__ float highest[kWarps][kPairs], totals[kWarps][kPairs];
  follow();
  const BatchView& batch = args.batch;
  const int row = splits.first_row + blockIdx.z, kv_head = blockIdx.y, split = blockIdx.x;
  const int length = batch.kv_len[row];
  if (batch.state_write[row] < 0 || split * kSplit >= length) return;
  const int group = args.heads / args.kv_heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const Bf16* q = static_cast<const Bf16*>(args.q.data) + batch.row_begin[row] * args.q.stride +
                  static_cast<int64_t>(kv_head) * group * kDim;
  const int block = split * kSplit + warp * kBlockKeys, end = min(length - block, kBlockKeys);
  WarpAttention w;
  const Block<K> keys = {reinterpret_cast<uint4*>(memory + 2 * warp * Block<K>::kBytes)};
  const Block<K> values = {reinterpret_cast<uint4*>(memory + (2 * warp + 1) * Block<K>::kBytes)};
  if (end > 0) {
    keys.start(block_at<K>(args, args.k_pages, row, kv_head, block), end, lane, 32);
    commit_copies();
    values.start(block_at<K>(args, args.v_pages, row, kv_head, block), end, lane, 32);
    commit_copies();
    wait_copies<1>();
    __syncwarp();
    float score[8][4] = {};
    block_scores(g < group ? q + g * kDim : nullptr, g + 8 < group ? q + (g + 8) * kDim : nullptr, keys, score);
    const int seen[2] = {end, end};
    block_weights(seen, args.scale, score, w);
    wait_copies<0>();
    __syncwarp();
    block_values(values, end, score, w);
  }
  finish_totals(w);
  if (lane % 4 == 0) {
    for (int r = 0; r < 2; ++r) {
      highest[warp][g + 8 * r] = w.highest[r];
      totals[warp][g + 8 * r] = w.total[r];
    }
  }
  __syncthreads();
  float best[2], keep[2];
  for (int r = 0; r < 2; ++r) {
    best[r] = highest[0][g + 8 * r];
    for (int i = 1; i < kWarps; ++i) best[r] = fmaxf(best[r], highest[i][g + 8 * r]);
    keep[r] = __expf(w.highest[r] - best[r]);
  }
  merge_warps(w, keep, merged);
  for (int i = threadIdx.x; i < group * kDim; i += 32 * kWarps) {
    splits.at(row, args.heads, kv_head * group + i / kDim, split)[i % kDim] = merged[i / kDim][i % kDim];
  }
  if (warp == 0 && lane < group) {
    float peak = highest[0][lane], total = 0.f;
    for (int i = 1; i < kWarps; ++i) peak = fmaxf(peak, highest[i][lane]);
    for (int i = 0; i < kWarps; ++i) total += totals[i][lane] * __expf(highest[i][lane] - peak);
    float* partial = splits.at(row, args.heads, kv_head * group + lane, split);
    partial[kDim] = peak;
    partial[kDim + 1] = total;
  }
}

// A block per row and head, a thread per dimension.
__global__ void __launch_bounds__(kDim) attention_merge_kernel(AttentionArgs args, Splits splits) {
  follow();
  const BatchView& batch = args.batch;
  const int row = splits.first_row + blockIdx.y, head = blockIdx.x, d = threadIdx.x;
  if (batch.state_write[row] < 0) return;
  const int count = (batch.kv_len[row] + kSplit - 1) / kSplit;
  float highest = -INFINITY, total = 0.f, sum = 0.f;
  for (int split = 0; split < count; ++split) {
    highest = fmaxf(highest, splits.at(row, args.heads, head, split)[kDim]);
  }
  for (int split = 0; split < count; ++split) {
    const float* partial = splits.at(row, args.heads, head, split);
    const float keep = __expf(partial[kDim] - highest);
    total += partial[kDim + 1] * keep;
    sum = fmaf(partial[d], keep, sum);
  }
  const int64_t t = batch.row_begin[row];
  const float gate = to_f32(static_cast<const Bf16*>(args.qg.data)[t * args.qg.stride + (2 * head + 1) * kDim + d]);
  static_cast<Bf16*>(args.out.data)[t * args.out.stride + head * kDim + d] =
      from_f32<Bf16>(sum / total * sigmoid(gate));
}

template <class K>
void launch_split(const AttentionArgs& args, const Splits& pieces, const dim3& grid, Stream stream) {
  constexpr int kBytes = 2 * kWarps * Block<K>::kBytes;
  static_assert(kBytes >= static_cast<int>(sizeof(Merged)));
  check(cudaFuncSetAttribute(attention_split_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "attention (shared memory)");
  launch_following(attention_split_kernel<K>, grid, 32 * kWarps, kBytes, stream, "attention (decode)", args, pieces);
}

}  // namespace

void attention_decode(const AttentionArgs& args, float* workspace, size_t workspace_bytes, Stream stream) {
  const int rows = args.batch.decode_rows;
  if (rows == 0) return;
  const int splits = (args.batch.pages_max * args.batch.page_size + kSplit - 1) / kSplit;
  const size_t row_bytes = static_cast<size_t>(args.heads) * splits * kPartial * sizeof(float);
  const int rows_at_once = static_cast<int>(workspace_bytes / row_bytes < 65535 ? workspace_bytes / row_bytes : 65535);
  for (int first = 0; first < rows; first += rows_at_once) {
    const Splits pieces = {workspace, first, splits};
    const auto here = static_cast<unsigned>(rows - first < rows_at_once ? rows - first : rows_at_once);
    const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(args.kv_heads), here);
    if (args.kv_dtype == DType::kF8E4M3) {
      launch_split<F8>(args, pieces, grid, stream);
    } else {
      launch_split<Bf16>(args, pieces, grid, stream);
    }
    launch_following(attention_merge_kernel, dim3(static_cast<unsigned>(args.heads), here), kDim, 0, stream,
                     "attention (decode)", args, pieces);
  }
}

bool attention_bf16_takes(const AttentionArgs& args) {
  const auto at_16 = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  return args.q.dtype == DType::kBF16 && (args.kv_dtype == DType::kBF16 || args.kv_dtype == DType::kF8E4M3) &&
         args.head_dim == kDim && args.heads / args.kv_heads <= kPairs && args.batch.page_size % kBlockKeys == 0 &&
         args.q.stride % 8 == 0 && at_16(args.q.data) && at_16(args.k_pages) && at_16(args.v_pages) &&
         args.page_stride % 16 == 0;
}

}  // namespace hylas::cuda
