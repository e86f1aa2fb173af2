#pragma once
// Contexts cut into pieces of one kv head and kSplit positions, and which of them a block computes.
#include "ops/cuda/attention_bf16.cuh"
#include "ops/cuda/attention_splits.h"

namespace hylas::cuda {

static_assert(kPartialDim == kDim);

// What a block needs of a piece: where things lie, counted in elements.
struct Piece {
  int count = 0;                             // positions, of kSplit; 0: there are no more pieces
  int newest = 0;                            // the row's newest position, counted from the piece's first
  int64_t blocks[kSplit / kBlockKeys] = {};  // keys and values in their pages
  int64_t query = 0;                         // of the group's first head
  int64_t partial = 0;                       // of the group's first head
};

// The pieces of all rows in order, from which every warp finds some in ascending order.
class Pieces {
 public:
  __device__ Pieces(const AttentionArgs& args, const Splits& splits)
      : args_(args), splits_(splits), base_(splits.first_row), end_(splits.first_row + splits.rows) {}

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
    const int begin = split * kSplit, head = kv_head * (args_.heads / args_.kv_heads);
    Piece piece = {.count = min(length - begin, kSplit), .newest = length - 1 - begin};
#pragma unroll
    for (int i = 0; i < kSplit / kBlockKeys; ++i) {
      const int position = begin + i * kBlockKeys;
      if (position >= length) continue;
      const int64_t page = batch.page_table[row * batch.page_table_stride + position / batch.page_size];
      piece.blocks[i] = page * args_.page_stride +
                        (static_cast<int64_t>(kv_head) * batch.page_size + position % batch.page_size) * kDim;
    }
    piece.query = batch.row_begin[row] * args_.q.stride + head * kDim;
    const int64_t row_head = static_cast<int64_t>(row - splits_.first_row) * args_.heads + head;
    piece.partial = row_head * splits_.splits + split;
    return piece;
  }

  const AttentionArgs& args_;
  const Splits& splits_;
  int base_, end_;
  int before_ = 0;  // pieces of the rows before base_
};

}  // namespace hylas::cuda
