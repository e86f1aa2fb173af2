#pragma once
// A decoder layer as Ops::row_layers takes it: the mixture of experts behind a mixer, and the mixer itself if it is a
// Gated DeltaNet.
#include <optional>
#include <span>

#include "ops/ops.h"

namespace hylas {

// The mixer up to its last product.
struct RowMixer {
  LinearWeight qkv, z, a, b;
  DeltaWeights weights;
  DeltaShape shape;
  Tensor conv_pool;   // [slots, channels, 3] act
  Tensor delta_pool;  // [slots, value_heads, key_dim, value_dim]
};

struct RowLayer {
  std::optional<RowMixer> mixer;  // without: attention, whose result comes from outside
  Tensor input_norm;              // [H], of the mixer
  LinearWeight out;               // [H, the mixer's columns]
  Tensor post_norm;               // [H]
  LinearWeight router;            // [experts, H]
  LinearWeight shared_gate;       // [1, H]
  int64_t choices = 0;            // experts of a token
  const ExpertWeights* experts = nullptr;
  const SharedExpertWeights* shared = nullptr;
};

// What comes behind the layers: a norm over the residual, and its values or products of them.
struct RowBehind {
  Tensor norm;    // [H]; null: nothing
  Tensor normed;  // [1, H] act, if there are no products
  std::span<const LinearWeight> weights;
  std::span<const Tensor> outs;  // [1, outputs] act
};

}  // namespace hylas
