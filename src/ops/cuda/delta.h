#pragma once
// Gated delta rule: delta_decode.cu (recurrent form), delta_prefill.cu and delta_prefill_bf16.cu (tiles of 64).
// Formulas: ops.h.
#include "ops/cuda/views.h"

namespace hylas::cuda {

constexpr int kDeltaDimMax = 128;  // of keys and of values

struct DeltaArgs {
  View qkv, a, b, out;
  const void* a_log = nullptr;
  DType a_log_dtype = DType::kF32;
  const void* dt_bias = nullptr;
  DType dt_bias_dtype = DType::kF32;
  int key_heads = 0;
  int value_heads = 0;
  int key_dim = 0;
  int value_dim = 0;
  void* pool = nullptr;  // [slots, value_heads, key_dim, value_dim]
  DType pool_dtype = DType::kF32;
  int64_t slot_stride = 0;
  BatchView batch;
};
// Rows [0, decode_rows).
void delta_decode(const DeltaArgs& args, Stream stream);
// Rows [decode_rows, rows); a row without tokens passes its state on.
void delta_prefill(const DeltaArgs& args, Stream stream);
// The same on the tensor cores: bf16 activations, 128 keys, columns a multiple of 32.
bool delta_prefill_bf16_takes(const DeltaArgs& args);
void delta_prefill_bf16(const DeltaArgs& args, Stream stream);

}  // namespace hylas::cuda
