// One token of each row: a context is cut at multiples of kSplit positions, each piece of a kv head is attended to by
// itself, and a second kernel adds the pieces in ascending order. The cuts lie at absolute positions and a piece does
// not depend on which block computes it, so a row does not depend on the others.
//
// Blocks stay and go from piece to piece: the keys of the next one are fetched while the values of this one are used,
// and the other way round, so that there is always something on its way. Of a piece's 128 keys each of the eight warps
// takes 16 for the scores; of the values each takes 32 dimensions of all keys, so that no sums are merged.
#include "ops/cuda/attention_feed.cuh"
#include "ops/cuda/attention_splits.h"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpKeys = kSplit / kWarps;
constexpr int kPairs = 16;  // query heads of a kv head, rows of the tensor cores

static_assert(kPartialDim == kDim);

struct Piece {
  int row = -1;  // -1: there are no more
  int kv_head = 0;
  int split = 0;
  int count = 0;                             // positions, of kSplit
  int newest = 0;                            // the row's newest position, counted from the piece's first
  int64_t blocks[kSplit / kBlockKeys] = {};  // where its keys and values lie in their pages
};

// The pieces of all rows in order, from which every block takes some in ascending order.
class Pieces {
 public:
  __device__ Pieces(const AttentionArgs& args, const Splits& splits)
      : args_(args), base_(splits.first_row), end_(splits.first_row + splits.rows) {}

  // All threads of a warp call; `index` never descends.
  __device__ Piece find(int index) {
    const int lane = threadIdx.x % 32;
    for (; base_ < end_; base_ += 32) {
      const int row = base_ + lane;
      const bool there = row < end_ && args_.batch.state_write[row] >= 0;
      const int length = there ? args_.batch.kv_len[row] : 0;
      const int count = (length + kSplit - 1) / kSplit * args_.kv_heads;
      int last = count;  // inclusive prefix sum
      for (int offset = 1; offset < 32; offset *= 2) {
        const int other = __shfl_up_sync(~0u, last, offset);
        if (lane >= offset) last += other;
      }
      const unsigned hit = __ballot_sync(~0u, index - before_ < last);
      if (hit) {
        const int owner = __ffs(hit) - 1;
        const int mine = index - before_ - __shfl_sync(~0u, last - count, owner);
        const int splits = __shfl_sync(~0u, count, owner) / args_.kv_heads;
        return piece(base_ + owner, mine / splits, mine % splits, __shfl_sync(~0u, length, owner));
      }
      before_ += __shfl_sync(~0u, last, 31);
    }
    return {};
  }

 private:
  __device__ Piece piece(int row, int kv_head, int split, int length) const {
    const BatchView& batch = args_.batch;
    const int begin = split * kSplit;
    Piece piece = {row, kv_head, split, min(length - begin, kSplit), length - 1 - begin};
#pragma unroll
    for (int i = 0; i < kSplit / kBlockKeys; ++i) {
      const int position = begin + i * kBlockKeys;
      if (position >= length) continue;
      const int64_t page = batch.page_table[row * batch.page_table_stride + position / batch.page_size];
      piece.blocks[i] = page * args_.page_stride +
                        (static_cast<int64_t>(kv_head) * batch.page_size + position % batch.page_size) * kDim;
    }
    return piece;
  }

  const AttentionArgs& args_;
  int base_, end_;
  int before_ = 0;  // pieces of the rows before base_
};

constexpr int kWeightStride = kSplit + 8;

// kRows: 8 or 16 of the tensor cores' rows are in use.
template <class K, int kRows>
struct alignas(16) Shared {
  static constexpr int kChunks = kSplit * Block<K>::kChunks;
  uint4 keys[kChunks], values[kChunks];
  union {
    uint16_t query[kRows * Feed<K>::kQueryStride];
    uint16_t weights[kRows * kWeightStride];  // once the scores are there
  };
  float highest[kWarps][kRows], totals[kWarps][kRows];
};

// Starts the copy of a piece's keys or values, zeros behind its end: all, or only those but the newest, which the
// kernel before this one writes, or only that.
enum class Part { kAll, kOlder, kNewest };
template <class K, Part part>
__device__ __forceinline__ void start(const void* pages, const Piece& piece, uint4* to) {
  constexpr int kChunks = Block<K>::kChunks;
#pragma unroll
  for (int i = 0; i < kSplit * kChunks; i += kThreads) {
    const int key = (i + static_cast<int>(threadIdx.x)) / kChunks, chunk = threadIdx.x % kChunks;
    if (part != Part::kAll && (key == piece.newest) != (part == Part::kNewest)) continue;
    const bool there = key < piece.count;
    const int64_t at =
        there ? piece.blocks[i / (kBlockKeys * kChunks)] + key % kBlockKeys * kDim + chunk * (16 / sizeof(K)) : 0;
    copy_async(to + Block<K>::place(key, chunk), static_cast<const K*>(pages) + at, there);
  }
}

// The queries of a kv head on their way to shared memory; zeros where the group has no more.
template <class K, int kRows>
struct Queries {
  uint4 eight[kRows / 8];

  __device__ __forceinline__ void read(const AttentionArgs& args, const Piece& piece) {
    const int group = args.heads / args.kv_heads, d = threadIdx.x % (kDim / 8) * 8;
    const Bf16* q = static_cast<const Bf16*>(args.q.data) + args.batch.row_begin[piece.row] * args.q.stride +
                    static_cast<int64_t>(piece.kv_head) * group * kDim;
#pragma unroll
    for (int i = 0; i < kRows / 8; ++i) {
      const int head = 8 * i + threadIdx.x / (kDim / 8);
      eight[i] = head < group ? load_8(q + head * kDim + d) : uint4{};
    }
  }
  __device__ __forceinline__ void write(Shared<K, kRows>& shared) const {
#pragma unroll
    for (int i = 0; i < kRows / 8; ++i) {
      const int head = 8 * i + threadIdx.x / (kDim / 8), d = threadIdx.x % (kDim / 8) * 8;
      *reinterpret_cast<uint4*>(shared.query + head * Feed<K>::kQueryStride + d) = Feed<K>::query(eight[i]);
    }
  }
};
static_assert(kThreads == 8 * kDim / 8);

// score[n]: rows g and g + 8 times the warp's keys 8 n + 2 t, 8 n + 2 t + 1.
template <class K, int kRows>
__device__ __forceinline__ void find_scores(const Shared<K, kRows>& shared, float (&score)[2][4]) {
  constexpr int kDims = Feed<K>::kLaneDims;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int d = 0; d < kDim; d += 4 * kDims) {
    uint32_t low[kDims / 2], high[kDims / 2] = {};
    const uint16_t* query = shared.query + g * Feed<K>::kQueryStride + d + t * kDims;
#pragma unroll
    for (int i = 0; i < kDims; i += 8) {
      *reinterpret_cast<uint4*>(low + i / 2) = *reinterpret_cast<const uint4*>(query + i);
      if (kRows > 8) {
        *reinterpret_cast<uint4*>(high + i / 2) =
            *reinterpret_cast<const uint4*>(query + 8 * Feed<K>::kQueryStride + i);
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      uint32_t key[kDims / 2];
      const int at = warp * kWarpKeys + 8 * n + g;
      Feed<K>::key(shared.keys[Block<K>::place(at, d * static_cast<int>(sizeof(K)) / 16 + t)], key);
#pragma unroll
      for (int i = 0; i < kDims / 2; i += 2) {
        const uint32_t a[4] = {low[i], high[i], low[i + 1], high[i + 1]};
        Feed<K>::mma(score[n], a, key[i], key[i + 1]);
      }
    }
  }
}

// Scores times `scale`; -inf for keys that are not there. The highest of each row to shared memory.
template <class K, int kRows>
__device__ __forceinline__ void put_highest(float scale, int count, float (&score)[2][4], Shared<K, kRows>& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < kRows / 8; ++r) {
    float highest = -INFINITY;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& value = score[n][2 * r + i];
        value = warp * kWarpKeys + 8 * n + 2 * t + i < count ? value * scale : -INFINITY;
        highest = fmaxf(highest, value);
      }
    }
    highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
    if (t == 0) shared.highest[warp][g + 8 * r] = highest;
  }
}

template <class K, int kRows>
__device__ __forceinline__ float highest_of(const Shared<K, kRows>& shared, int row) {
  float highest = shared.highest[0][row];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) highest = fmaxf(highest, shared.highest[i][row]);
  return highest;  // finite: a piece has at least one key
}

// The weights of the warp's keys and their total to shared memory.
template <class K, int kRows>
__device__ __forceinline__ void put_weights(const float (&score)[2][4], Shared<K, kRows>& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < kRows / 8; ++r) {
    const float highest = highest_of(shared, g + 8 * r);
    float total = 0.f;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float x = __expf(score[n][2 * r] - highest), y = __expf(score[n][2 * r + 1] - highest);
      total += x + y;
      uint16_t* to = shared.weights + (g + 8 * r) * kWeightStride + warp * kWarpKeys + 8 * n + 2 * t;
      *reinterpret_cast<uint32_t*>(to) = Feed<K>::pair(x, y);
    }
    total += __shfl_xor_sync(~0u, total, 1);
    total += __shfl_xor_sync(~0u, total, 2);
    if (t == 0) shared.totals[warp][g + 8 * r] = total;
  }
}

// sum[e]: rows g and g + 8, dimensions 32 warp + 4 (2t, 2t + 1) + e. A lane reads dimensions 4 g .. 4 g + 3 of four
// keys; instruction e takes dimension 4 g + e as its column g.
template <class K, int kRows>
__device__ __forceinline__ void sum_values(const Shared<K, kRows>& shared, int count, float (&sum)[4][4]) {
  constexpr int kChunk = 16 / static_cast<int>(sizeof(K));
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, d = 32 * warp + 4 * g;
  const auto value = [&](int key) {
    return reinterpret_cast<const K*>(shared.values + Block<K>::place(key, d / kChunk)) + d % kChunk;
  };
#pragma unroll 4
  for (int k = 0; k < kSplit; k += 16) {
    if (k >= count) break;
    uint32_t a[4] = {}, b0[4], b1[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = g + 8 * (i % 2);
      if (row < kRows) {
        a[i] = *reinterpret_cast<const uint32_t*>(shared.weights + row * kWeightStride + k + 2 * t + i / 2 * 8);
      }
    }
    Feed<K>::values(value(k + 2 * t), value(k + 2 * t + 1), b0);
    Feed<K>::values(value(k + 2 * t + 8), value(k + 2 * t + 9), b1);
#pragma unroll
    for (int e = 0; e < 4; ++e) Feed<K>::mma(sum[e], a, b0[e], b1[e]);
  }
}

// Where the result of the group's query head `head` goes.
__device__ __forceinline__ float* partial_of(const AttentionArgs& args, const Splits& splits, const Piece& piece,
                                             int head) {
  const int64_t row_head = static_cast<int64_t>(piece.row - splits.first_row) * args.heads +
                           piece.kv_head * (args.heads / args.kv_heads) + head;
  return splits.partials + (row_head * splits.splits + piece.split) * kPartial;
}

template <class K, int kRows>
__device__ __forceinline__ void put_partial(const AttentionArgs& args, const Splits& splits, const Piece& piece,
                                            const float (&sum)[4][4], const Shared<K, kRows>& shared) {
  const int group = args.heads / args.kv_heads, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < kRows / 8; ++r) {
    if (g + 8 * r >= group) continue;
    float* to = partial_of(args, splits, piece, g + 8 * r);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float4 four = {sum[0][2 * r + i], sum[1][2 * r + i], sum[2][2 * r + i], sum[3][2 * r + i]};
      *reinterpret_cast<float4*>(to + threadIdx.x / 32 * 32 + 4 * (2 * t + i)) = four;
    }
  }
  if (threadIdx.x < group) {
    float total = 0.f;
    for (int i = 0; i < kWarps; ++i) total += shared.totals[i][threadIdx.x];
    float* to = partial_of(args, splits, piece, threadIdx.x);
    to[kDim] = highest_of(shared, threadIdx.x);
    to[kDim + 1] = total;
  }
}

template <class K, int kRows>
__global__ void __launch_bounds__(kThreads, sizeof(K) == 1 ? 3 : 1)
    attention_split_kernel(AttentionArgs args, Splits splits) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<K, kRows>*>(memory);
  // The kernel before this one writes the queries and each row's newest key and value, nothing else of this.
  Pieces pieces(args, splits);
  int index = blockIdx.x;
  Piece piece = pieces.find(index);
  if (piece.row < 0) return follow();
  start<K, Part::kOlder>(args.k_pages, piece, shared.keys);
  start<K, Part::kOlder>(args.v_pages, piece, shared.values);
  follow();
  start<K, Part::kNewest>(args.k_pages, piece, shared.keys);
  commit_copies();
  start<K, Part::kNewest>(args.v_pages, piece, shared.values);
  commit_copies();
  Queries<K, kRows> queries;
  queries.read(args, piece);
  while (true) {
    queries.write(shared);
    index += gridDim.x;
    const Piece next = pieces.find(index);
    wait_copies<1>();
    __syncthreads();
    float score[2][4] = {}, sum[4][4] = {};
    find_scores(shared, score);
    put_highest(args.scale, piece.count, score, shared);
    __syncthreads();  // keys and queries are used
    if (next.row >= 0) {
      start<K, Part::kAll>(args.k_pages, next, shared.keys);
      queries.read(args, next);
    }
    commit_copies();
    put_weights(score, shared);
    wait_copies<1>();
    __syncthreads();
    sum_values(shared, piece.count, sum);
    put_partial(args, splits, piece, sum, shared);
    if (next.row < 0) break;
    __syncthreads();  // and so are values, weights and totals
    start<K, Part::kAll>(args.v_pages, next, shared.values);
    commit_copies();
    piece = next;
  }
}

template <class K, int kRows>
void launch_split(const AttentionArgs& args, const Splits& splits, int multiprocessors, Stream stream) {
  constexpr int kBytes = sizeof(Shared<K, kRows>);
  constexpr int kBlocks = 227 * 1024 / (kBytes + 1024);  // of a multiprocessor
  static_assert(kBlocks >= 1);
  const int64_t pieces = static_cast<int64_t>(splits.rows) * args.kv_heads * splits.splits;
  const int64_t blocks = pieces < kBlocks * multiprocessors ? pieces : kBlocks * multiprocessors;
  check(cudaFuncSetAttribute(attention_split_kernel<K, kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "attention (shared memory)");
  launch_following(attention_split_kernel<K, kRows>, static_cast<unsigned>(blocks), kThreads, kBytes, stream,
                   "attention (decode)", args, splits);
}

template <class K>
void launch_split(const AttentionArgs& args, const Splits& splits, int multiprocessors, Stream stream) {
  if (args.heads / args.kv_heads <= 8) {
    launch_split<K, 8>(args, splits, multiprocessors, stream);
  } else {
    launch_split<K, kPairs>(args, splits, multiprocessors, stream);
  }
}

}  // namespace

void attention_decode(const AttentionArgs& args, int multiprocessors, float* workspace, size_t workspace_bytes,
                      Stream stream) {
  const int rows = args.batch.decode_rows;
  if (rows == 0) return;
  const int splits = (args.batch.pages_max * args.batch.page_size + kSplit - 1) / kSplit;
  const size_t row_bytes = static_cast<size_t>(args.heads) * splits * kPartial * sizeof(float);
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
