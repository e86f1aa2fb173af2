#pragma once
// Attention of one token over a context in pieces: attention_decode.cu attends to each, attention_merge.cu adds them.
#include "ops/cuda/attention.h"

namespace hylas::cuda {

// Of one row, head and split: the sum of weighted values, then the highest score and the total of the weights.
constexpr int kPartialDim = 256;
constexpr int kPartial = kPartialDim + 4;

// Rows [first_row, first_row + rows) and their partial results.
struct Splits {
  float* partials = nullptr;  // [rows, heads, splits][kPartial]
  int first_row = 0;
  int rows = 0;
  int splits = 0;
};

// out = the splits of every row and head, added in ascending order, times the sigmoid of the gate.
void attention_merge(const AttentionArgs& args, const Splits& splits, Stream stream);

}  // namespace hylas::cuda
