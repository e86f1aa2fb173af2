#pragma once
// The second half of a layer (model.md section 3.3): a dense SwiGLU, or a mixture of experts with a shared one.
#include <string>
#include <variant>

#include "base/result.h"
#include "model/step.h"
#include "weights/source.h"

namespace hylas {

class Mlp {
 public:
  static Result<Mlp> load(const ModelConfig& config, WeightSource& source, const std::string& prefix);
  // x [tokens, H] act -> partials [slices, tokens, H] f32.
  void forward(const Step& step, const Tensor& x, const Tensor& partials) const;

  struct Scratch {
    Tensor gate, up;  // [tokens, I] act
  };
  Scratch allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  int64_t width_ = 0;
  LinearWeight gate_, up_;  // [I, H]
  LinearWeight down_;       // [H, I]
};

class Moe {
 public:
  static Result<Moe> load(const ModelConfig& config, WeightSource& source, const std::string& prefix);
  // x [tokens, H] act -> partials [slices, tokens, H] f32.
  void forward(const Step& step, const Tensor& x, const Tensor& partials) const;

  struct Scratch {
    Tensor logits;       // [tokens, E] f32
    Tensor shared_logit; // [tokens, 1] f32
    Tensor ids;          // [tokens, k] i32
    Tensor weights;      // [tokens, k] f32
  };
  Scratch allocate(Arena& arena, int64_t tokens, DType act) const;

 private:
  int64_t experts_total_ = 0, experts_per_token_ = 0;
  LinearWeight router_;       // [E, H]
  LinearWeight shared_gate_;  // [1, H]
  ExpertWeights experts_;
  SharedExpertWeights shared_;
};

// Which of the two a model has is decided once, here.
class FeedForward {
 public:
  static Result<FeedForward> load(const ModelConfig& config, WeightSource& source, const std::string& prefix);
  void forward(const Step& step, const Tensor& x, const Tensor& partials) const {
    std::visit([&](const auto& ffn) { ffn.forward(step, x, partials); }, ffn_);
  }
  void allocate(Arena& arena, int64_t tokens, DType act) const {
    std::visit([&](const auto& ffn) { ffn.allocate(arena, tokens, act); }, ffn_);
  }

 private:
  explicit FeedForward(std::variant<Mlp, Moe> ffn) : ffn_(std::move(ffn)) {}
  std::variant<Mlp, Moe> ffn_;
};

}  // namespace hylas
