#pragma once
// Attention of one token over a context in pieces: attention_decode.cu attends to each, attention_merge.cu adds them.
#include "ops/cuda/attention.h"

namespace hylas::cuda {

// Of one row, head and split: the weighted mean of the values, the highest score, the total of the weights. T: f16
// where keys and values are FP8 (they stay below 448), else f32.
constexpr int kPartialDim = 256;
template <class T>
struct alignas(16) Partial {
  T mean[kPartialDim];
  float highest;
  float total;
};

// Rows [first_row, first_row + rows) and their partial results.
struct Splits {
  void* partials = nullptr;  // [rows, heads, splits] of Partial
  int first_row = 0;
  int rows = 0;
  int splits = 0;
};

// out = the splits of every row and head, added in ascending order, times the sigmoid of the gate.
void attention_merge(const AttentionArgs& args, const Splits& splits, Stream stream);

}  // namespace hylas::cuda
