#pragma once
// Weights as the operators take them: views of the checkpoint's bytes in their stored format.
#include <vector>

#include "tensor/tensor.h"

namespace hylas {

// y = x W^T. FP8 weights carry one scale per 128 x 128 block: w = q * scale (model.md section 3.5).
struct LinearWeight {
  Tensor weight;  // [out, in] f32 | bf16 | fp8_e4m3; row_stride >= in (a column shard is a view)
  Tensor scale;   // fp8 only: [ceil(out / 128), ceil(in / 128)] f32; row_stride as the whole tensor's
};
constexpr int64_t kFp8Block = 128;

// The experts of one MoE layer that this rank holds: [expert_begin, expert_begin + size) of the model's.
struct ExpertWeights {
  int32_t expert_begin = 0;
  std::vector<LinearWeight> gate;  // each [expert width, hidden]
  std::vector<LinearWeight> up;    // each [expert width, hidden]
  std::vector<LinearWeight> down;  // each [hidden, expert width]
  int32_t experts_total = 0;       // of the layer, all ranks': how many of a token's choices to expect here; 0: all
};

// The shared expert: a dense SwiGLU whose output is scaled by sigmoid(gate logit) (model.md section 3.3).
struct SharedExpertWeights {
  LinearWeight gate;  // [shared width, hidden]
  LinearWeight up;    // [shared width, hidden]
  LinearWeight down;  // [hidden, shared width]
};

}  // namespace hylas
