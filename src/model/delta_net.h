#pragma once
// Gated DeltaNet (model.md section 3.2): a linear-attention layer whose whole memory is one matrix per value head and
// the last three inputs of a short convolution.
#include <string>
#include <utility>

#include "base/result.h"
#include "model/step.h"
#include "ops/row_layer.h"
#include "weights/source.h"

namespace hylas {

class DeltaNet {
 public:
  // `prefix` ends before "in_proj_qkv"; `layer` names the slots (StateLayout kinds "delta" and "conv").
  static Result<DeltaNet> load(const LoadContext& context, const std::string& prefix, int32_t layer);

  // In which form forward() reads x.
  RowForm input_form(const Step& step, DType act) const;
  // The product that makes the partial sums.
  const LinearWeight& out() const { return out_; }
  // x [tokens, H] (normed) -> partials [slices, tokens, H] f32 or of partial_type.
  void forward(const Step& step, const ActRows& x, const Tensor& partials) const;

  RowMixer row_mixer(const Step& step) const;

  struct Scratch {
    Tensor u;     // [tokens, channels] act: q | k | v before the convolution
    Tensor z;     // [tokens, value_heads, value_dim] act: the output gate
    Tensor a;     // [tokens, value_heads] f32: decay
    Tensor b;     // [tokens, value_heads] f32: beta
    Tensor c;     // [tokens, channels] act: after the convolution, unless the device keeps it to itself
    ActRows out;  // [tokens, value_heads * value_dim]
  };
  Scratch allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  // [slots, channels, 3] and [slots, value_heads, key_dim, value_dim].
  std::pair<Tensor, Tensor> pools(const Step& step) const;

  DeltaShape shape_{};  // of this rank
  int32_t layer_ = 0;
  LinearWeight qkv_;    // [channels, H]: rows q | k | v
  LinearWeight z_;      // [value_heads * value_dim, H]
  LinearWeight a_, b_;  // [value_heads, H]
  DeltaWeights mixer_;
  LinearWeight out_;  // [H, value_heads * value_dim]
};

}  // namespace hylas
