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
  // x [tokens, H] (normed) -> sums.partials [slices, tokens, H] f32 or of partial_type, then the norm behind them,
  // which may lie where x does.
  void forward(const Step& step, const ActRows& x, const GroupSums& sums, const NormBehind& behind) const;

  RowMixer row_mixer(const Step& step) const;

  DeltaRows allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  // [slots, channels, 3] and [slots, value_heads, key_dim, value_dim].
  std::pair<Tensor, Tensor> pools(const Step& step) const;

  DeltaShape shape_{};  // of this rank
  int32_t layer_ = 0;
  DeltaInputs inputs_;
  DeltaWeights mixer_;
  LinearWeight out_;  // [H, value_heads * value_dim]
};

}  // namespace hylas
