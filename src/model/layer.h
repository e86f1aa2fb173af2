#pragma once
// One decoder layer: norm, mixer, norm, feed-forward, around the residual stream.
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "model/delta_net.h"
#include "model/feed_forward.h"
#include "model/gated_attention.h"

namespace hylas {

// A norm, and in which form its rows are read.
struct RowsNorm {
  Tensor weight;  // [H]; null: no norm
  RowForm form = RowForm::kValues;
};

// The order of the norms lets each be fused with the addition before it: a layer's output norm is the next one's input
// norm, so `forward` takes the norm to apply behind it.
class Layer {
 public:
  // `prefix` = "...layers.<i>."; `kv_kind` names the pages of a full-attention layer.
  static Result<Layer> load(const LoadContext& context, const std::string& prefix, LayerKind kind,
                            const std::string& kv_kind, int32_t layer);

  RowsNorm input_norm(const Step& step, DType act) const;

  // hidden [tokens, H] act is the residual stream, updated in place. normed [tokens, H]: room for every form, with
  // input_norm(hidden) on entry, in its form; next_norm(hidden) on return, where next_norm is given.
  void forward(const Step& step, const Tensor& hidden, const ActRows& normed, const RowsNorm& next_norm,
               float eps) const;

  // The layer as Ops::row_layers takes it; none if it is dense.
  std::optional<RowLayer> row_layer(const Step& step) const;
  // Null: it is a Gated DeltaNet layer.
  const GatedAttention* attention() const { return std::get_if<GatedAttention>(&mixer_); }

  // Accounts in `arena` for what forward() allocates at most.
  void allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  Layer(std::variant<DeltaNet, GatedAttention> mixer, FeedForward ffn)
      : mixer_(std::move(mixer)), ffn_(std::move(ffn)) {}

  std::variant<DeltaNet, GatedAttention> mixer_;
  FeedForward ffn_;
  Tensor input_norm_;  // [H]
  Tensor post_norm_;   // [H]
  int64_t hidden_size_ = 0;
  int64_t slices_ = 1;  // partial sums of the mixer's product on this rank
};

}  // namespace hylas
