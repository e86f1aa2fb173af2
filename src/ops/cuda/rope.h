#pragma once
// Rotary embedding, and keys and values to their pages: rope.cu. Formulas: ops.h.
#include "ops/cuda/views.h"

namespace hylas::cuda {

struct RopeTableArgs {
  const int32_t* positions = nullptr;  // [axes, tokens]
  int64_t positions_stride = 0;
  int axes = 1;  // 1 or 3
  int sections[3] = {};
  int rotary_dim = 0;
  double theta = 0;
  View table;  // [tokens, rotary_dim] f32
  int64_t tokens = 0;
};
void rope_rows(const RopeTableArgs& args, Stream stream);

constexpr int kHeadDimMax = 256;

struct QkRopeArgs {
  View qg, k, v;
  const void* q_norm = nullptr;
  const void* k_norm = nullptr;
  DType norm_dtype = DType::kF32;
  float eps = 0;
  View rope;
  int rotary_dim = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;  // at most kHeadDimMax
  BatchView batch;
  void* k_pages = nullptr;  // [pages, kv_heads, page_size, head_dim]
  void* v_pages = nullptr;
  DType kv_dtype = DType::kF32;
  int64_t page_stride = 0;
  int64_t pages = 0;
  View q_out;
};
void qk_rope_rows(const QkRopeArgs& args, Stream stream);

}  // namespace hylas::cuda
