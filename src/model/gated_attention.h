#pragma once
// Gated full attention (model.md section 3.1): grouped-query attention with normalised queries and keys, partial rotary
// embedding and an output gate that comes out of the query projection.
#include <array>
#include <string>

#include "base/result.h"
#include "model/step.h"
#include "weights/source.h"

namespace hylas {

class GatedAttention {
 public:
  // `prefix` ends before "q_proj"; `kind` and `layer` name the KV pages (StateLayout).
  static Result<GatedAttention> load(const LoadContext& context, const std::string& prefix, const std::string& kind,
                                     int32_t layer);

  // In which form forward() reads x.
  RowForm input_form(const Step& step, DType act) const;
  // The product that makes the partial sums.
  const LinearWeight& out() const { return o_; }
  // x [tokens, H] (normed) -> sums.partials [slices, tokens, H] f32 or of partial_type, then the norm behind them,
  // which may lie where x does.
  void forward(const Step& step, const ActRows& x, const GroupSums& sums, const NormBehind& behind) const;
  struct Scratch {
    Tensor qg;    // [tokens, heads, 2 * head_dim] act
    Tensor k;     // [tokens, kv_heads, head_dim] act
    Tensor v;     // [tokens, kv_heads, head_dim] act
    Tensor q;     // [tokens, heads, head_dim] act
    ActRows out;  // [tokens, heads * head_dim]
  };
  Scratch allocate(Arena& arena, int64_t tokens, DType act) const;

  // In parts. The first products, and where forward() puts them; and from there to the rows that the last one reads.
  std::array<LinearWeight, 3> inputs() const { return {q_, k_, v_}; }
  std::array<Tensor, 3> inputs_of(const Scratch& scratch) const;
  ActRows attend(const Step& step, const Scratch& scratch) const;

 private:
  int64_t heads_ = 0, kv_heads_ = 0;  // of this rank
  int64_t head_dim_ = 0;
  float eps_ = 0;
  std::string kind_;
  int32_t layer_ = 0;
  LinearWeight q_;          // [heads * 2 * head_dim, H]: per head the query's rows, then the gate's
  LinearWeight k_, v_;      // [kv_heads * head_dim, H]
  LinearWeight o_;          // [H, heads * head_dim]
  Tensor q_norm_, k_norm_;  // [head_dim]
};

}  // namespace hylas
