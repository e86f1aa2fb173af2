#pragma once
// Keys and values of prefill rows from their pages to one piece of bf16 for each row, as FlashInfer reads them.
#include "ops/cuda/attention.h"

namespace hylas::cuda {

// KV heads [first_head, first_head + heads) of rows [first_row, first_row + rows).
struct GatheredKv {
  int32_t first_row = 0;
  int32_t rows = 0;
  int32_t row_keys = 0;  // places of a row, a multiple of 64
  int32_t first_head = 0;
  int32_t heads = 0;
  void* k = nullptr;  // [heads, rows, row_keys, 256] bf16; zeros from a row's end to the next multiple of 64
  void* v = nullptr;  // the same
};
void gather_kv(const AttentionArgs& args, const GatheredKv& to, Stream stream);

}  // namespace hylas::cuda
