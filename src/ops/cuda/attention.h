#pragma once
// Causal attention over pages, times the sigmoid of the gate. attention_any.cu takes any types and shapes in f32;
// attention_decode.cu and attention_prefill.cu are for bf16 queries of 256 dimensions on the tensor cores.
#include "ops/cuda/fp8_rows.h"

namespace hylas::cuda {

struct AttentionArgs {
  View q, qg, out;
  Fp8Rows fp8;                    // the same rows as out; attention_decode makes them too, where data is not null
  const void* k_pages = nullptr;  // [pages, kv_heads, page_size, head_dim]
  const void* v_pages = nullptr;
  DType kv_dtype = DType::kF32;
  int64_t page_stride = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;
  BatchView batch;
};

// Rows [first_row, rows). head_dim a multiple of 8 of at most 256, at most kGroupMax query heads per kv head.
constexpr int kGroupMax = 32;
void attention_any(const AttentionArgs& args, int first_row, Stream stream);

// head_dim 256, pages of a multiple of 64 positions, at most 16 query heads per kv head.
bool attention_bf16_takes(const AttentionArgs& args);
// Rows [0, decode_rows). A context is cut at multiples of kSplit positions whose partial results `workspace` holds;
// what does not fit at once is done in several launches.
constexpr int kSplit = 128;
void attention_decode(const AttentionArgs& args, int multiprocessors, float* workspace, size_t workspace_bytes,
                      Stream stream);
// Rows [decode_rows, rows).
void attention_prefill(const AttentionArgs& args, Stream stream);

}  // namespace hylas::cuda
