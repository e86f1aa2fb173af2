// One token of each row: a context is cut at multiples of kSplit positions, each piece of a kv head is attended to by
// itself, and a second kernel adds the pieces in ascending order. The cuts lie at absolute positions and a piece does
// not depend on which block computes it, so a row does not depend on the others.
//
// Blocks stay and go from piece to piece: the keys of the next one are fetched while the values of this one are used,
// and the other way round, so that there is always something on its way. Of a piece's 128 keys each of the eight warps
// takes 16 for the scores; of the values each takes 32 dimensions of all keys, so that no sums are merged. Keys and
// dimensions are the tensor cores' 16 rows, the query heads of a kv head their 8 columns, once or twice.
#include "ops/cuda/attention_feed.cuh"
#include "ops/cuda/attention_pieces.cuh"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpKeys = kSplit / kWarps;
constexpr int kColumns = 8;           // query heads that the tensor cores take at once
constexpr int kPairs = 2 * kColumns;  // query heads of a kv head at most

// kTiles: of kColumns query heads.
template <class K, int kTiles>
struct alignas(16) Shared {
  static constexpr int kChunks = kSplit * Block<K>::kChunks, kHeads = kTiles * kColumns;
  uint4 keys[kChunks], values[kChunks];
  union {
    uint16_t query[kHeads * Feed<K>::kQueryStride];
    uint16_t weights[kTiles][kSplit][kColumns];  // once the scores are there
  };
  alignas(16) float highest[kHeads][kWarps];
  alignas(16) float totals[kHeads][kWarps];
  Piece plan[2][kWarps];  // the block's pieces, eight at a time: each warp finds one of them
};

// Starts the copy of a piece's keys or values, zeros behind its end: all, or only those but the newest, which the
// kernel before this one writes, or only that.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, uint64_t policy) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "l"(policy));
}
// Keys and values are used once: the second-level cache is for what is handed to the merge.
__device__ __forceinline__ uint64_t leave_first() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
enum class Part { kAll, kOlder, kNewest };
template <class K, Part part>
__device__ __forceinline__ void start(const void* pages, const Piece& piece, uint4* to) {
  constexpr int kChunks = Block<K>::kChunks, kStep = kThreads / kChunks;
  static_assert(kStep % 8 == 0);  // the placement of chunks repeats
  const int first = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks, count = piece.count, newest = piece.newest;
  const K* source = static_cast<const K*>(pages) + first * kDim + chunk * (16 / static_cast<int>(sizeof(K)));
  to += Block<K>::place(first, chunk);
  const uint64_t policy = leave_first();
  const K* from[kSplit / kBlockKeys];
  for (int i = 0; i < kSplit / kBlockKeys; ++i) from[i] = source + piece.blocks[i];
#pragma unroll
  for (int i = 0; i < kSplit; i += kStep) {
    if (part != Part::kAll && (first + i == newest) != (part == Part::kNewest)) continue;
    if (first + i < count) {
      copy_async_16(to + i * kChunks, from[i / kBlockKeys] + i % kBlockKeys * kDim, policy);
    } else {
      to[i * kChunks] = {};
    }
  }
}

// The queries of a kv head on their way to shared memory; zeros where the group has no more.
template <class K, int kTiles>
struct Queries {
  uint4 eight[kTiles];

  __device__ __forceinline__ void read(const Bf16* q, int group, const Piece& piece) {
    const Bf16* from = q + piece.query + threadIdx.x * 8;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int head = i * kColumns + threadIdx.x / (kDim / 8);
      eight[i] = head < group ? load_8(from + i * kColumns * kDim) : uint4{};
    }
  }
  __device__ __forceinline__ void write(Shared<K, kTiles>& shared) const {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int head = i * kColumns + threadIdx.x / (kDim / 8), d = threadIdx.x % (kDim / 8) * 8;
      *reinterpret_cast<uint4*>(shared.query + head * Feed<K>::kQueryStride + d) = Feed<K>::query(eight[i]);
    }
  }
};
static_assert(kThreads == kColumns * kDim / 8);

// Of a warp's 16 keys a lane 4 g + t has the keys g and g + 8 and the heads 2 t and 2 t + 1 of each tile: score[.][i]
// is of head 2 t + i % 2 and key g + i / 2 * 8.
template <int kTiles>
using Scores = float[kTiles][4];

template <class K, int kTiles>
__device__ __forceinline__ void find_scores(const Shared<K, kTiles>& shared, Scores<kTiles>& score) {
  constexpr int kDims = Feed<K>::kLaneDims;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, first = threadIdx.x / 32 * kWarpKeys + g;
  const uint16_t* queries = shared.query + g * Feed<K>::kQueryStride + t * kDims;
#pragma unroll
  for (int d = 0; d < kDim; d += 4 * kDims) {
    uint32_t low[kDims / 2], high[kDims / 2];
    const uint4* keys = shared.keys + Block<K>::place(first, d * static_cast<int>(sizeof(K)) / 16 + t);
    Feed<K>::key(keys[0], low);
    Feed<K>::key(keys[8 * Block<K>::kChunks], high);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < kDims; i += 8) {
        const uint4 q = *reinterpret_cast<const uint4*>(queries + tile * kColumns * Feed<K>::kQueryStride + d + i);
        const int at = i / 2;
        Feed<K>::mma(score[tile], low[at], high[at], low[at + 1], high[at + 1], q.x, q.y);
        Feed<K>::mma(score[tile], low[at + 2], high[at + 2], low[at + 3], high[at + 3], q.z, q.w);
      }
    }
  }
}

// Scores times `scale`; -inf for keys that are not there. The highest of each head to shared memory.
template <class K, int kTiles>
__device__ __forceinline__ void put_highest(float scale, int count, Scores<kTiles>& score, Shared<K, kTiles>& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const bool low = warp * kWarpKeys + g < count, high = warp * kWarpKeys + g + 8 < count;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float &x = score[tile][i], &y = score[tile][i + 2];
      x = low ? x * scale : -INFINITY;
      y = high ? y * scale : -INFINITY;
      float highest = fmaxf(x, y);
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
      if (g == 0) shared.highest[tile * kColumns + 2 * t + i][warp] = highest;
    }
  }
}

template <class K, int kTiles>
__device__ __forceinline__ float highest_of(const Shared<K, kTiles>& shared, int head) {
  float all[kWarps];
  load<kWarps>(shared.highest[head], all);
  float highest = all[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) highest = fmaxf(highest, all[i]);
  return highest;  // finite: a piece has at least one key
}

// The weights of the warp's keys and their total to shared memory.
template <class K, int kTiles>
__device__ __forceinline__ void put_weights(const Scores<kTiles>& score, Shared<K, kTiles>& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float weight[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = tile * kColumns + 2 * t + i;
      const float highest = highest_of(shared, head);
      weight[i] = __expf(score[tile][i] - highest);
      weight[i + 2] = __expf(score[tile][i + 2] - highest);
      float total = weight[i] + weight[i + 2];
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) total += __shfl_xor_sync(~0u, total, offset);
      if (g == 0) shared.totals[head][warp] = total;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      *reinterpret_cast<uint32_t*>(&shared.weights[tile][warp * kWarpKeys + g + 8 * i][2 * t]) =
          Feed<K>::pair(weight[2 * i], weight[2 * i + 1]);
    }
  }
}

// The weights of 32 keys as operands: two pairs of keys each for the first 16 and for the others, of head g of a tile.
__device__ __forceinline__ void load_weights(const uint16_t (*weights)[kColumns], uint32_t (&to)[4]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(weights + threadIdx.x % 32));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// sum[.][e / 2][i]: dimension 32 warp + 4 g + e of the heads 2 t and 2 t + 1, where i = e % 2 * 2 and one more. A lane
// reads dimensions 4 g .. 4 g + 3 of four keys, the instructions take two of them each as their rows g and g + 8.
template <int kTiles>
using Sums = float[kTiles][2][4];

template <class K, int kTiles>
__device__ __forceinline__ void sum_values(const Shared<K, kTiles>& shared, int count, Sums<kTiles>& sum) {
  constexpr int kChunk = 16 / static_cast<int>(sizeof(K));
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, d = threadIdx.x / 32 * 32 + 4 * g;
  const auto value = [&](int key) {
    return reinterpret_cast<const K*>(shared.values + Block<K>::place(key, d / kChunk)) + d % kChunk;
  };
  // Eight keys further the placement of chunks is the same.
  const K *even = value(2 * t), *odd = value(2 * t + 1);
#pragma unroll 2
  for (int k = 0; k < kSplit; k += 32) {
    if (k >= count) break;
    uint32_t weights[kTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) load_weights(shared.weights[tile] + k, weights[tile]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t low[4], high[4];
      const int at = (k + 16 * half) * kDim;
      Feed<K>::values(even + at, odd + at, low);
      Feed<K>::values(even + at + 8 * kDim, odd + at + 8 * kDim, high);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint32_t b0 = weights[tile][2 * half], b1 = weights[tile][2 * half + 1];
        Feed<K>::mma(sum[tile][0], low[0], low[1], high[0], high[1], b0, b1);
        Feed<K>::mma(sum[tile][1], low[2], low[3], high[2], high[3], b0, b1);
      }
    }
  }
}

template <class K, int kTiles>
__device__ __forceinline__ float total_of(const Shared<K, kTiles>& shared, int head) {
  float all[kWarps], total = 0.f;
  load<kWarps>(shared.totals[head], all);
#pragma unroll
  for (const float x : all) total += x;
  return total;  // at least 1, the weight of the highest
}

template <class K, int kTiles>
__device__ __forceinline__ void put_partial(int group, const Splits& splits, const Piece& piece,
                                            const Sums<kTiles>& sum, const Shared<K, kTiles>& shared) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  auto* to = static_cast<Partial<typename Feed<K>::Mean>*>(splits.partials) + piece.partial;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = tile * kColumns + 2 * t + i;
      const float scale = 1.f / total_of(shared, head);
      const float mean[4] = {sum[tile][0][i] * scale, sum[tile][0][i + 2] * scale, sum[tile][1][i] * scale,
                             sum[tile][1][i + 2] * scale};
      if (head < group) store<4>(to[head * splits.splits].mean + threadIdx.x / 32 * 32 + 4 * g, mean);
    }
  }
  if (threadIdx.x < group) {
    to[threadIdx.x * splits.splits].highest = highest_of(shared, threadIdx.x);
    to[threadIdx.x * splits.splits].total = total_of(shared, threadIdx.x);
  }
}

template <class K, int kTiles>
__global__ void __launch_bounds__(kThreads, sizeof(K) == 1 ? 3 : 1)
    attention_split_kernel(AttentionArgs args, Splits splits) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<K, kTiles>*>(memory);
  // The kernel before this one writes the queries and each row's newest key and value, nothing else of this.
  Pieces pieces(args, splits);
  const auto* q = static_cast<const Bf16*>(args.q.data);
  const int group = args.heads / args.kv_heads;
  const auto plan = [&](int round) {
    const int warp = threadIdx.x / 32;
    const Piece piece = pieces.find(blockIdx.x + (round * kWarps + warp) * gridDim.x);
    if (threadIdx.x % 32 == 0) shared.plan[round % 2][warp] = piece;
  };
  plan(0);
  __syncthreads();
  if (shared.plan[0][0].count == 0) return follow();
  start<K, Part::kOlder>(args.k_pages, shared.plan[0][0], shared.keys);
  start<K, Part::kOlder>(args.v_pages, shared.plan[0][0], shared.values);
  follow();
  start<K, Part::kNewest>(args.k_pages, shared.plan[0][0], shared.keys);
  commit_copies();
  start<K, Part::kNewest>(args.v_pages, shared.plan[0][0], shared.values);
  commit_copies();
  Queries<K, kTiles> queries;
  queries.read(q, group, shared.plan[0][0]);
  for (int i = 0;; ++i) {
    const Piece &piece = shared.plan[i / kWarps % 2][i % kWarps],
                &next = shared.plan[(i + 1) / kWarps % 2][(i + 1) % kWarps];
    queries.write(shared);
    if (i % kWarps == 0) plan(i / kWarps + 1);
    wait_copies<1>();
    __syncthreads();
    Scores<kTiles> score = {};
    Sums<kTiles> sum = {};
    find_scores(shared, score);
    put_highest(args.scale, piece.count, score, shared);
    __syncthreads();  // keys and queries are used
    const bool more = next.count > 0;
    if (more) {
      start<K, Part::kAll>(args.k_pages, next, shared.keys);
      queries.read(q, group, next);
    }
    commit_copies();
    put_weights(score, shared);
    wait_copies<1>();
    __syncthreads();
    sum_values(shared, piece.count, sum);
    put_partial(group, splits, piece, sum, shared);
    if (!more) break;
    __syncthreads();  // and so are values, weights and totals
    start<K, Part::kAll>(args.v_pages, next, shared.values);
    commit_copies();
  }
}

template <class K, int kTiles>
void launch_split(const AttentionArgs& args, const Splits& splits, int multiprocessors, Stream stream) {
  constexpr int kBytes = sizeof(Shared<K, kTiles>);
  constexpr int kBlocks = 227 * 1024 / (kBytes + 1024);  // of a multiprocessor
  static_assert(kBlocks >= 1);
  const int64_t pieces = static_cast<int64_t>(splits.rows) * args.kv_heads * splits.splits;
  const int64_t blocks = pieces < kBlocks * multiprocessors ? pieces : kBlocks * multiprocessors;
  check(cudaFuncSetAttribute(attention_split_kernel<K, kTiles>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "attention (shared memory)");
  launch_following(attention_split_kernel<K, kTiles>, static_cast<unsigned>(blocks), kThreads, kBytes, stream,
                   "attention (decode)", args, splits);
}

template <class K>
void launch_split(const AttentionArgs& args, const Splits& splits, int multiprocessors, Stream stream) {
  if (args.heads / args.kv_heads <= kColumns) {
    launch_split<K, 1>(args, splits, multiprocessors, stream);
  } else {
    launch_split<K, 2>(args, splits, multiprocessors, stream);
  }
}

}  // namespace

void attention_decode(const AttentionArgs& args, int multiprocessors, float* workspace, size_t workspace_bytes,
                      Stream stream) {
  const int rows = args.batch.decode_rows;
  if (rows == 0) return;
  const int splits = (args.batch.pages_max * args.batch.page_size + kSplit - 1) / kSplit;
  const size_t bytes = args.kv_dtype == DType::kF8E4M3 ? sizeof(Partial<F16>) : sizeof(Partial<float>);
  const size_t row_bytes = static_cast<size_t>(args.heads) * splits * bytes;
  const int rows_at_once = static_cast<int>(workspace_bytes / row_bytes < 65535 ? workspace_bytes / row_bytes : 65535);
  for (int first = 0; first < rows; first += rows_at_once) {
    const int here = rows - first < rows_at_once ? rows - first : rows_at_once;
    const Splits pieces = {workspace, first, here, splits};
    if (args.kv_dtype == DType::kF8E4M3) {
      launch_split<F8>(args, pieces, multiprocessors, stream);
    } else {
      launch_split<Bf16>(args, pieces, multiprocessors, stream);
    }
    attention_merge(args, pieces, stream);
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
