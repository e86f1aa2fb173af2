#pragma once
// MTP head (model.md section 3.4): one full-attention layer that predicts the token after next from the target's final
// hidden state and the next token's embedding.
#include <string>

#include "base/result.h"
#include "model/layer.h"
#include "model/token_embedding.h"

namespace hylas {

class Mtp {
 public:
  // `embedding` is the target's: shared.
  static Result<Mtp> load(const LoadContext& context, const TokenEmbedding& embedding);

  // normed [tokens, H] act, next_ids [tokens] i32 -> out [tokens, H] act: hidden states after the head's own norm.
  void forward(const Step& step, const Tensor& normed, const Tensor& next_ids, const Tensor& out) const;

  // Accounts in `arena` for what forward() allocates at most.
  void allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  explicit Mtp(Layer layer) : layer_(std::move(layer)) {}

  struct Scratch {
    Tensor embedded;  // [tokens, H] act
    Tensor target;    // [tokens, H] act
    Tensor both;      // [tokens, 2 H] act: embedding first
    Tensor hidden;    // [tokens, H] act
  };
  Scratch allocate_scratch(Arena& arena, int64_t tokens, DType act) const;

  Layer layer_;
  float eps_ = 0;
  int64_t hidden_size_ = 0;
  TokenEmbedding embedding_;
  Tensor embedding_norm_, hidden_norm_;  // [H]
  Tensor norm_;                          // [H]
  LinearWeight fc_;                      // [H, 2 H]
};

}  // namespace hylas
