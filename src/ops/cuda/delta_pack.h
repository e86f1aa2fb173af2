#pragma once
// What FlashInfer's gated delta rule wants, from what Ops::delta_rule gets, and back: normalised keys and queries, the
// gates, and states turned round in f32.
#include "ops/cuda/delta.h"
#include "ops/prefill_parts.h"

namespace hylas::cuda {

// Value heads [first_value_head, + value_heads) and their key heads: a launch may take a part of them.
struct DeltaHeads {
  int32_t first_key = 0;
  int32_t keys = 0;
  int32_t first_value = 0;
  int32_t values = 0;
};
// The prefill tokens' q and k [tokens, heads.keys, 128] bf16 (null: they are normalised where they are), alpha and beta
// [tokens, heads.values].
struct DeltaTokens {
  void* q = nullptr;
  void* k = nullptr;
  float* alpha = nullptr;
  float* beta = nullptr;
  // Null, or [parts + 1]: where the parts of the one prefill row begin, from its tokens cut[i] on, and its end.
  int32_t* bounds = nullptr;
  int32_t parts = 0;
  int32_t cut[kPrefillPartsMax] = {};
};
void delta_pack_tokens(const DeltaArgs& args, const DeltaHeads& heads, const DeltaTokens& out, Stream stream);

// States of rows [first_row, first_row + rows): states [rows, heads.values, value_dim, key_dim] f32. A padded row's are
// neither read nor written.
void delta_take_states(const DeltaArgs& args, const DeltaHeads& heads, int32_t first_row, int32_t rows, float* states,
                       Stream stream);
void delta_put_states(const DeltaArgs& args, const DeltaHeads& heads, int32_t first_row, int32_t rows,
                      const float* states, Stream stream);

}  // namespace hylas::cuda
