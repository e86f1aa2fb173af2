#pragma once
// Convolution, delta rule and gated norm of a step of decode rows in one launch: delta_mixer.cu. Formulas: ops.h.
#include "ops/cuda/conv.h"
#include "ops/cuda/delta.h"
#include "ops/cuda/fp8_rows.h"

namespace hylas::cuda {

struct DeltaMixerArgs {
  ConvArgs conv;    // its `out` is not written
  DeltaArgs delta;  // its `qkv` is not read
  View z;
  const void* norm = nullptr;  // [value_dim]
  DType norm_dtype = DType::kF32;
  float eps = 0;
  bool has_values = true;  // delta.out is written
  Fp8Rows fp8;             // the same rows; data null: not quantized
};

// Decode rows alone, bf16 activations, 128 keys and values, at most 8 value heads per key head (blocks of a cluster).
bool delta_mixer_takes(const DeltaMixerArgs& args);
void delta_mixer_decode(const DeltaMixerArgs& args, Stream stream);

}  // namespace hylas::cuda
