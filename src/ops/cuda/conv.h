#pragma once
// Causal depthwise convolution of width 4, then silu: conv.cu. Formula: ops.h.
#include "ops/cuda/views.h"

namespace hylas::cuda {

struct ConvArgs {
  View u;
  const void* weight = nullptr;  // [channels, 4]
  DType weight_dtype = DType::kF32;
  void* pool = nullptr;  // [slots, channels, 3] of u's type, oldest first
  int64_t slot_stride = 0;
  View out;
  int channels = 0;
  // Heads of 128 channels, the first ones, that come l2-normalised in rows behind the decode rows; where
  // conv_normalises.
  int normalised = 0;
  BatchView batch;
};
bool conv_normalises(const ConvArgs& args);
void conv_rows(const ConvArgs& args, Stream stream);

}  // namespace hylas::cuda
