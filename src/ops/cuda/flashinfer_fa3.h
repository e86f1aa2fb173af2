#pragma once
// FlashInfer's FlashAttention 3 for Hopper (0.7.2.post1, include/flashinfer/attention/hopper): causal attention of
// bf16 rows over keys and values that lie one behind the other, 256 dimensions; the gate is applied in its epilogue.
#include <cstdint>

#include "ops/cuda/views.h"

namespace hylas::cuda {

constexpr int kFa3Dim = 256;
constexpr int kFa3KeyTile = 64;  // a row's keys and values are read up to a multiple of this: zeros behind the last

// Tokens count from the first prefill token of the batch; strides are elements between tokens. Row r has the tokens
// [row_begin[r], row_begin[r + 1]) minus first_token and keys [r * row_keys, r * row_keys + kv_len[r]). Rows whose
// `state_write` is negative are left alone.
struct Fa3Args {
  const void* q = nullptr;  // [tokens, heads, 256] bf16
  int64_t q_stride = 0;
  const void* qg = nullptr;  // [tokens, heads, query 256 | gate 256] bf16
  int64_t qg_stride = 0;
  void* out = nullptr;  // like q
  int64_t out_stride = 0;
  const void* k = nullptr;  // [kv_heads, rows * row_keys, 256] bf16
  const void* v = nullptr;  // the same
  int32_t row_keys = 0;     // a multiple of kFa3KeyTile
  const int32_t* row_begin = nullptr;
  const int32_t* kv_len = nullptr;
  const int32_t* state_write = nullptr;
  int32_t first_token = 0;
  int32_t tokens = 0;
  int32_t rows = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  float scale = 0;
};
void flashinfer_fa3(const Fa3Args& args, Stream stream);

}  // namespace hylas::cuda
