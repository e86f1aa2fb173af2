#pragma once
// The second half of a layer (model.md section 3.3): a dense SwiGLU, or a mixture of experts with a shared one.
#include <string>
#include <variant>

#include "base/result.h"
#include "model/expert_exchange.h"
#include "model/step.h"

namespace hylas {

// Both are split over all ranks of a stage, also where attention is not: with several dp groups every rank takes the
// tokens of all of them, and its own back out of the sum.
class Mlp {
 public:
  static Result<Mlp> load(const LoadContext& context, const std::string& prefix);
  // In which form forward() reads x.
  RowForm input_form(const Step& step, DType act) const;
  // Of x [tokens, H], and what is behind it.
  void forward(const Step& step, const ActRows& x, const NormBehind& behind) const;
  // Accounts in `arena` for what forward() allocates at most, for `tokens` of this rank's group.
  void allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  int64_t width_ = 0, hidden_ = 0;  // of this rank; H
  int32_t dp_ = 1, dp_group_ = 0;
  int64_t slices_ = 1;
  LinearWeight gate_, up_;  // [width, H]
  LinearWeight down_;       // [H, width]
};

class Moe {
 public:
  static Result<Moe> load(const LoadContext& context, const std::string& prefix);
  RowForm input_form(const Step& step, DType act) const;
  void forward(const Step& step, const ActRows& x, const NormBehind& behind) const;
  void allocate(Arena& arena, int64_t tokens, DType act) const;
  const MoeWeights& weights() const { return weights_; }

 private:
  int32_t dp_ = 1, dp_group_ = 0;
  int32_t expert_ranks_ = 1;
  bool gathers_ = false;  // the tokens of all dp groups
  MoeWeights weights_;
  ExpertExchange exchange_;  // with several expert ranks
};

// Which of the two a model has is decided once, here.
class FeedForward {
 public:
  static Result<FeedForward> load(const LoadContext& context, const std::string& prefix);
  RowForm input_form(const Step& step, DType act) const {
    return std::visit([&](const auto& ffn) { return ffn.input_form(step, act); }, ffn_);
  }
  void forward(const Step& step, const ActRows& x, const NormBehind& behind) const {
    std::visit([&](const auto& ffn) { ffn.forward(step, x, behind); }, ffn_);
  }
  void allocate(Arena& arena, int64_t tokens, DType act) const {
    std::visit([&](const auto& ffn) { ffn.allocate(arena, tokens, act); }, ffn_);
  }
  // Null: it is dense.
  const MoeWeights* experts() const {
    const auto* moe = std::get_if<Moe>(&ffn_);
    return moe ? &moe->weights() : nullptr;
  }

 private:
  explicit FeedForward(std::variant<Mlp, Moe> ffn) : ffn_(std::move(ffn)) {}
  std::variant<Mlp, Moe> ffn_;
};

}  // namespace hylas
