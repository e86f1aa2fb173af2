#pragma once
// Causal depthwise convolution of width 4, then silu: conv.cu. Formula: ops.h.
#include "ops/cuda/views.h"

namespace hylas::cuda {

constexpr int kConvTile = 32;  // tokens of a row

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
  // A part of the tiles of kConvTile tokens, or of a row's last ones, in the order of rows; of the parts of a batch the
  // one with a row's first tile moves its state. `tiles` 0: all from first_tile on. Where conv_normalises.
  int first_tile = 0;
  int tiles = 0;
  BatchView batch;
};
bool conv_normalises(const ConvArgs& args);
void conv_rows(const ConvArgs& args, Stream stream);

}  // namespace hylas::cuda
