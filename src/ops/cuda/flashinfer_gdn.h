#pragma once
// FlashInfer's gated delta rule for Hopper (0.6.13, include/flashinfer/flat): tiles of 64 tokens, 128 keys and values,
// everything in bf16 but the sums and the state.
#include <cstdint>

#include "ops/cuda/views.h"

namespace hylas::cuda {

constexpr int kGdnDim = 128;  // of keys and of values
// Room for the descriptors that the kernel makes, one for each multiprocessor.
constexpr int64_t kGdnMapBytes = 256 * 128;

// Tokens count from the first prefill token of the batch; strides are elements between tokens. Row r has the tokens
// [row_begin[r], row_begin[r + 1]) minus first_token; rows without tokens and rows whose `state_write` is negative are
// left alone, outputs and states.
struct GdnArgs {
  const void* q = nullptr;  // [tokens, key_heads, 128] bf16, normalised
  const void* k = nullptr;  // the same
  int64_t qk_stride = 0;
  const void* v = nullptr;  // [tokens, value_heads, 128] bf16
  int64_t v_stride = 0;
  void* out = nullptr;  // like v
  int64_t out_stride = 0;
  const float* alpha = nullptr;  // [tokens, value_heads], e^g
  const float* beta = nullptr;   // the same
  float* states = nullptr;       // [rows, value_heads, 128 values, 128 keys], updated
  void* maps = nullptr;          // kGdnMapBytes, 128-byte aligned
  const int32_t* row_begin = nullptr;
  const int32_t* state_write = nullptr;
  int32_t first_token = 0;
  int32_t tokens = 0;
  int32_t rows = 0;
  int32_t key_heads = 0;
  int32_t value_heads = 0;
  float scale = 0;  // of reads
};
void flashinfer_gdn(const GdnArgs& args, Stream stream);

}  // namespace hylas::cuda
