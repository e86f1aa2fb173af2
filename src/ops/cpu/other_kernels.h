#pragma once
// The kernels of the operators other than matrix products: one table of function pointers per instruction set. Plain
// pointers only, see isa.h. "act" is f32 or bf16, weights are f32 or bf16; strides count elements.
#include <cstdint>

#include "tensor/dtype.h"

namespace hylas::cpu {

// Rows of a tensor: all dimensions but the first are contiguous.
struct Rows {
  void* data;
  DType dtype;
  int64_t stride;
};

struct NormArgs {
  Rows x;    // residual of add_rms_norm: read and written
  Rows z;    // gate of gated_rms_norm
  Rows out;  // data may be null in add_rms_norm
  const void* weight;
  DType weight_dtype;
  int64_t width;  // of one norm
  int64_t heads;  // norms in a row
  float eps;
  const float* partials[4];  // add_rms_norm: `slices` matrices
  int slices;                // 1, 2 or 4
  int64_t partial_stride;
};

struct SiluMulArgs {
  Rows gate, up, out;
  int64_t width;
};

// One head of q and k: norm, rotary embedding of the first `rotary_dim`, store.
struct QkNormRopeArgs {
  Rows qg, k, v, q_out;
  const void* q_norm;
  const void* k_norm;
  DType norm_dtype;
  float eps;
  Rows rope;  // f32: cos | sin
  int64_t rotary_dim;
  int64_t heads, kv_heads, head_dim;
  void* k_pages;
  void* v_pages;
  DType kv_dtype;
  int64_t kv_head_stride;  // between heads within a page
  const int64_t* offsets;  // [tokens]: element offset of head 0 of the token in k_pages and v_pages; -1 = padding
};

struct ConvArgs {
  Rows u, out;  // act
  const void* weight;
  DType weight_dtype;
  Rows pool;  // a slot is [channels, 3] act
  int rows;
  const int32_t* row_begin;
  const int32_t* state_read;
  const int32_t* state_write;
};

struct AttentionArgs {
  Rows q, qg, out;  // act
  void* k_pages;
  void* v_pages;
  DType kv_dtype;
  int64_t page_stride;
  int64_t page_size;  // 1 << page_shift
  int32_t page_shift;
  int32_t heads, kv_heads, head_dim;
  float scale;
};

// Consecutive tokens of one row under one kv head.
struct AttentionItem {
  int32_t kv_head;
  int32_t token_begin, token_end;  // within the packed batch
  int64_t position;                // of token_begin
  const int32_t* pages;            // of the row
  int64_t begin;                   // first position that is read, a multiple of kSplit
  float* sums;                     // null: all positions from `begin` on, to the output; else one split, to here
};

struct DeltaArgs {
  Rows qkv, a, b, out;
  const void* a_log;
  DType a_log_dtype;
  const void* dt_bias;
  DType dt_bias_dtype;
  int32_t key_heads, value_heads, key_dim, value_dim;
  Rows pool;
};

// The tokens of one row under one value head.
struct DeltaItem {
  int32_t head;
  int32_t token_begin, token_end;
  int64_t position;                 // of token_begin
  int32_t state_read, state_write;  // state_read may be -1
};

struct OtherKernels {
  // Rows [begin, end).
  void (*rms_norm)(const NormArgs& args, int64_t begin, int64_t end);
  void (*add_rms_norm)(const NormArgs& args, int64_t begin, int64_t end);
  void (*gated_rms_norm)(const NormArgs& args, int64_t begin, int64_t end);
  void (*silu_mul)(const SiluMulArgs& args, int64_t begin, int64_t end, int64_t column_begin, int64_t column_end);
  void (*qk_norm_rope)(const QkNormRopeArgs& args, int64_t begin, int64_t end);
  // Channels [begin, end) of every row; at most kConvChannels.
  void (*conv_silu)(const ConvArgs& args, int64_t begin, int64_t end);
  // scratch: attention_floats. Sums of a split: attention_sums_floats.
  int64_t (*attention_floats)(const AttentionArgs& args, int64_t tokens);
  int64_t (*attention_sums_floats)(const AttentionArgs& args, int64_t tokens);
  void (*attention)(const AttentionArgs& args, const AttentionItem& item, float* scratch);
  // The `splits` splits of one token, whose sums stand behind each other from item.sums on.
  void (*attention_combine)(const AttentionArgs& args, const AttentionItem& item, int64_t splits, float* scratch);
  // scratch: delta_floats.
  int64_t (*delta_floats)(const DeltaArgs& args);
  void (*delta_decode)(const DeltaArgs& args, const DeltaItem& item, float* scratch);
  void (*delta_prefill)(const DeltaArgs& args, const DeltaItem& item, float* scratch);
  // Logits of one row. A weight is e^((x - highest) factor) and at least e^-87, for NaN too: as good as nothing.
  float (*highest)(const float* x, int64_t count);  // NaN is passed over; -inf when there is nothing else
  double (*sum_exp)(const float* x, int64_t count, float highest, float factor);  // of the weights
  void (*softmax_weights)(const float* x, int64_t count, float highest, float factor, float* out);
  // Indices of x >= threshold in ascending order; returns how many there are (all are counted, `room` at most written).
  int64_t (*collect)(const float* x, int64_t count, float threshold, int32_t* out, int64_t room);
};

constexpr int kConvChannels = 256;
constexpr int kHeadDimMax = 256;
constexpr int kTile = 64;    // positions: of an attention block and of a delta rule tile
constexpr int kSplit = 512;  // positions of an attention split

}  // namespace hylas::cpu
