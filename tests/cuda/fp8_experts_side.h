#pragma once
// A layer's experts in FP8 as the tensor cores' kernels want them, and tokens with their choices.
#include <algorithm>
#include <memory>
#include <numeric>

#include "cuda/parity.h"

namespace hylas::test {

struct ExpertCase {
  int64_t tokens, hidden, width, shared_width;
  int experts, choices;
  int chosen;  // experts that any token may choose: the others have no rows
};

// FP8 matrices on the device one behind the other, as a checkpoint's experts are placed for these kernels.
class Together {
 public:
  Together(const std::vector<const Matrix*>& matrices) {
    const Matrix& first = *matrices[0];
    const size_t bytes = first.view.bytes(), scale_bytes = first.scale.bytes();
    weights_ = Buffer::make(cuda_ops().device(), bytes * matrices.size()).value();
    scales_ = Buffer::make(cuda_ops().device(), scale_bytes * matrices.size()).value();
    for (size_t i = 0; i < matrices.size(); ++i) {
      LinearWeight weight = matrices[i]->weight();
      weight.weight.data = static_cast<std::byte*>(weights_.data()) + i * bytes;
      weight.scale.data = static_cast<std::byte*>(scales_.data()) + i * scale_bytes;
      cuda_ops().device().copy_from_host(weight.weight.data, matrices[i]->view.data, bytes);
      cuda_ops().device().copy_from_host(weight.scale.data, matrices[i]->scale.data, scale_bytes);
      placed.push_back(weight);
    }
  }
  std::vector<LinearWeight> placed;

 private:
  Buffer weights_, scales_;
};

// A layer's experts on both sides, the shared one last, and tokens with their choices.
struct ExpertLayer {
  explicit ExpertLayer(const ExpertCase& c) : c(c) {
    for (int e = 0; e <= c.experts; ++e) {
      const int64_t width = e < c.experts ? c.width : c.shared_width;
      gate.push_back(random_matrix(random, DType::kF8E4M3, width, c.hidden, 0.08f));
      up.push_back(random_matrix(random, DType::kF8E4M3, width, c.hidden, 0.08f));
      down.push_back(random_matrix(random, DType::kF8E4M3, c.hidden, width, 0.08f));
    }
    std::vector<const Matrix*> pairs, downs;
    for (int e = 0; e < c.experts; ++e) {
      pairs.insert(pairs.end(), {&gate[e], &up[e]});
      downs.push_back(&down[e]);
    }
    both = std::make_unique<Together>(pairs);
    last = std::make_unique<Together>(downs);
    for (const Matrix* matrix : {&gate.back(), &up.back(), &down.back()}) {
      of_shared.push_back(std::make_unique<WeightOnDevice>(*matrix));
    }
    shared = {of_shared[0]->weight(), of_shared[1]->weight(), of_shared[2]->weight()};
    std::vector<int32_t> order(c.chosen);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::shuffle(order.begin(), order.end(), random);
      ids.insert(ids.end(), order.begin(), order.begin() + c.choices);
    }
    x = random_matrix(random, DType::kBF16, c.tokens, c.hidden, 1.f, 8);
    weights = random_tensor(random, DType::kF32, {c.tokens, c.choices}, 0.5f);
    logit = random_tensor(random, DType::kF32, {c.tokens, 1}, 1.f);
  }
  // Experts [begin, end), by default from `begin` on.
  ExpertWeights experts(int begin = 0, int end = INT32_MAX) const {
    ExpertWeights held;
    held.expert_begin = begin;
    for (int e = begin; e < std::min(end, c.experts); ++e) {
      held.gate.push_back(both->placed[2 * e]);
      held.up.push_back(both->placed[2 * e + 1]);
      held.down.push_back(last->placed[e]);
    }
    return held;
  }

  ExpertCase c;
  std::mt19937 random{93};
  std::vector<Matrix> gate, up, down;
  std::unique_ptr<Together> both, last;
  std::vector<std::unique_ptr<WeightOnDevice>> of_shared;
  SharedExpertWeights shared;
  std::vector<int32_t> ids;
  Matrix x;
  HostTensor weights, logit;
};

}  // namespace hylas::test
