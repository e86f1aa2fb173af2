#pragma once
// Which row and which of its tokens a block works on, when a batch is cut into tiles of tokens that never cross rows.
#include "ops/cuda/views.h"

namespace hylas::cuda {

struct RowTile {
  int row = -1;   // -1: there are fewer tiles
  int index = 0;  // tile within the row
};

// Tile `tile` of the rows [first_row, rows): a row of n tokens has ceil(n / tokens) of them, at least `at_least`. All
// threads of the warp call; every thread gets the answer.
__device__ inline RowTile find_row_tile(const int32_t* row_begin, int first_row, int rows, int tokens, int at_least,
                                        int tile) {
  const int lane = threadIdx.x % 32;
  for (int base = first_row; base < rows; base += 32) {
    const int row = base + lane;
    int count = 0;
    if (row < rows) count = max((row_begin[row + 1] - row_begin[row] + tokens - 1) / tokens, at_least);
    int end = count;  // inclusive prefix sum
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(~0u, end, offset);
      if (lane >= offset) end += other;
    }
    const unsigned hit = __ballot_sync(~0u, tile < end);
    if (hit) {
      const int owner = __ffs(hit) - 1;
      const int begin = __shfl_sync(~0u, end - count, owner);
      return {base + owner, tile - begin};
    }
    tile -= __shfl_sync(~0u, end, 31);
  }
  return {};
}

// The row of a token: the last one that begins at or before it.
__device__ inline int row_of_token(const int32_t* row_begin, int rows, int token) {
  int low = 0, high = rows;  // row_begin[low] <= token < row_begin[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (row_begin[middle] <= token ? low : high) = middle;
  }
  return low;
}

// At least as many tiles as there can be, for `at_least` 0 or 1.
inline int row_tiles_max(const BatchView& batch, int first_row, int tokens) {
  const int rows = batch.rows - first_row;
  return rows <= 0 ? 0 : batch.tokens / tokens + rows;
}

}  // namespace hylas::cuda
