#pragma once
// The shape of one step as the operators see it: packed tokens of several sequences, no padding between them.
#include <cstdint>

#include "tensor/tensor.h"

namespace hylas {

// Tokens of all rows lie one after another ("varlen"). Rows [0, decode_rows) have exactly one token and use the
// recurrent forms; the others are prefill chunks and use the chunked forms. They are worked on in any order and at
// once: no other row reads or writes the slot that a row writes. Metadata tensors lie in device memory.
struct Batch {
  int32_t tokens = 0;
  int32_t rows = 0;
  int32_t decode_rows = 0;
  int32_t page_size = 64;
  Tensor token_ids;    // [tokens] i32
  Tensor positions;    // [P, tokens] i32: P = 1 (text) or 3 (T, H, W of mRoPE, model.md section 3.1)
  Tensor row_begin;    // [rows + 1] i32: first token of each row
  Tensor kv_len;       // [rows] i32: tokens of the sequence once this step is done; a row starts at kv_len - its tokens
  Tensor page_table;   // [rows, pages_max] i32: page id of positions [page_size * j, page_size * (j + 1)); -1 = none
  Tensor state_read;   // [rows] i32: slot of the state before this step; -1 = zero state (a fresh sequence)
  Tensor state_write;  // [rows] i32: slot that receives the state; -1 = a padded row: nothing is written anywhere
};

// KV pages of one layer. Head-major inside a page, so that a head is one contiguous piece (PD, resharding).
struct KvPool {
  Tensor k;  // [pages, kv_heads, page_size, head_dim] f32 | bf16 | fp8_e4m3 (scale 1, saturating)
  Tensor v;  // the same
};

}  // namespace hylas
