// The experts on the FP8 tensor cores beside the CPU's products of the same quantized activations, step by step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "cuda/fp8_side.h"

namespace hylas::test {
namespace {

struct Case {
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

float rounded(double value) { return bf16_to_f32(f32_to_bf16(static_cast<float>(value))); }

// The down product of silu(gate) * up for every row of x (bf16), quantized before both products.
HostTensor expert_rows(const Tensor& x, const Matrix& gate, const Matrix& up, const Matrix& down) {
  const int64_t rows = x.dim(0), width = gate.view.dim(0);
  const Matrix small = quantized(x);
  HostTensor g = poisoned(DType::kF32, {rows, width}), u = poisoned(DType::kF32, {rows, width});
  const LinearWeight weights[] = {gate.weight(), up.weight()}, last = down.weight();
  const Tensor outs[] = {g, u};
  cpu_ops().linear(small.view, weights, outs);
  const Matrix halves = poisoned_matrix(DType::kBF16, rows, width);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      const double a = rounded(get(g, r, c)), b = rounded(get(u, r, c));
      set_element(halves.view, r, c, static_cast<float>(a / (1 + std::exp(-a)) * b));
    }
  }
  HostTensor out = poisoned(DType::kF32, {rows, x.dim(1)});
  const Tensor down_outs[] = {out};
  cpu_ops().linear(quantized(halves.view).view, {&last, 1}, down_outs);
  return out;
}

// Both kinds of kernels for the experts: whole tiles of rows, and few rows each.
Ops& few_rows_ops() {
  static const std::unique_ptr<Ops> kOps = [] {
    CudaOpsOptions options;
    options.fp8 = {.experts = true, .expert_rows_min = int64_t{1} << 20};
    return make_cuda_ops(options).value();
  }();
  return *kOps;
}

void compare(const Case& c, Ops& on, bool with_shared) {
  std::mt19937 random(93);
  std::vector<Matrix> gate, up, down;
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
  const Together both(pairs), last(downs);
  ExpertWeights experts;
  for (int e = 0; e < c.experts; ++e) {
    experts.gate.push_back(both.placed[2 * e]);
    experts.up.push_back(both.placed[2 * e + 1]);
    experts.down.push_back(last.placed[e]);
  }
  const WeightOnDevice shared_gate(gate.back()), shared_up(up.back()), shared_down(down.back());
  const SharedExpertWeights shared{shared_gate.weight(), shared_up.weight(), shared_down.weight()};

  std::vector<int32_t> order(c.chosen), ids;
  std::iota(order.begin(), order.end(), 0);
  for (int64_t t = 0; t < c.tokens; ++t) {
    std::shuffle(order.begin(), order.end(), random);
    ids.insert(ids.end(), order.begin(), order.begin() + c.choices);
  }
  const Matrix x = random_matrix(random, DType::kBF16, c.tokens, c.hidden, 1.f, 8);
  const HostTensor weights = random_tensor(random, DType::kF32, {c.tokens, c.choices}, 0.5f),
                   logit = random_tensor(random, DType::kF32, {c.tokens, 1}, 1.f);
  HostTensor wanted = poisoned(DType::kF32, {c.tokens, c.hidden});
  const HostTensor of_shared = expert_rows(x.view, gate.back(), up.back(), down.back());
  for (int64_t t = 0; t < c.tokens; ++t) {
    for (int64_t i = 0; i < c.hidden; ++i) {
      const double part = with_shared ? get(of_shared, t, i) / (1 + std::exp(-get(logit, t, 0))) : 0;
      set(wanted, t, i, static_cast<float>(part));
    }
  }
  for (int e = 0; e < c.chosen; ++e) {
    const HostTensor rows = expert_rows(x.view, gate[e], up[e], down[e]);
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int j = 0; j < c.choices; ++j) {
        if (ids[static_cast<size_t>(t * c.choices + j)] != e) continue;
        for (int64_t i = 0; i < c.hidden; ++i) {
          set(wanted, t, i, static_cast<float>(get(wanted, t, i) + get(weights, t, j) * get(rows, t, i)));
        }
      }
    }
  }
  OnDevice dx(x), dids(int_tensor(ids, {c.tokens, c.choices})), dweights(weights), dlogit(logit);
  OnDevice partials(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  run_on(on, [&](Ops& ops) {
    ops.moe(dx, dids, dweights, experts, with_shared ? &shared : nullptr, with_shared ? dlogit.view : Tensor(),
            partials);
  });
  wanted.view = wanted.view.reshaped({1, c.tokens, c.hidden});
  // The product of gate and up is quantized again: a sum that differs in its last bit may become the next e4m3 value.
  EXPECT_TRUE(near(partials, wanted, 1e-2));
}

class CudaFp8Moe : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaFp8Moe,
                         testing::Values(Case{1, 128, 128, 128, 4, 2, 4}, Case{7, 256, 128, 128, 4, 2, 2},
                                         Case{300, 256, 128, 256, 8, 3, 8}, Case{700, 256, 384, 128, 6, 2, 3},
                                         Case{64, 512, 256, 128, 64, 8, 64}, Case{500, 384, 128, 128, 2, 1, 1},
                                         Case{96, 2048, 512, 512, 16, 8, 9}, Case{1100, 256, 128, 128, 24, 4, 19}));

TEST_P(CudaFp8Moe, EqualsTheCpuOnTheQuantizedRows) { compare(GetParam(), fp8_ops(), true); }

class CudaFp8FewRows : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaFp8FewRows,
                         testing::Values(Case{1, 128, 128, 128, 4, 2, 4}, Case{1, 2048, 512, 512, 256, 8, 256},
                                         Case{7, 256, 384, 128, 4, 2, 2}, Case{64, 512, 256, 128, 64, 8, 64},
                                         Case{20, 2048, 512, 512, 16, 8, 9}, Case{3, 4096, 128, 128, 16, 10, 16}));

// Some experts have more rows than a run holds, some none.
TEST_P(CudaFp8FewRows, EqualTheCpuOnTheQuantizedRows) { compare(GetParam(), few_rows_ops(), false); }

// A token alone, and among others that crowd its experts: the same bits.
TEST(CudaFp8FewRows, ATokenIsTheSameInEveryBatch) {
  constexpr int64_t kTokens = 37, kHidden = 512, kWidth = 256;
  constexpr int kExperts = 12, kChoices = 3;
  std::mt19937 random(97);
  std::vector<Matrix> gate, up, down;
  for (int e = 0; e < kExperts; ++e) {
    gate.push_back(random_matrix(random, DType::kF8E4M3, kWidth, kHidden, 0.08f));
    up.push_back(random_matrix(random, DType::kF8E4M3, kWidth, kHidden, 0.08f));
    down.push_back(random_matrix(random, DType::kF8E4M3, kHidden, kWidth, 0.08f));
  }
  std::vector<const Matrix*> gates, ups, downs;
  for (int e = 0; e < kExperts; ++e) {
    gates.push_back(&gate[e]);
    ups.push_back(&up[e]);
    downs.push_back(&down[e]);
  }
  const Together gate_at(gates), up_at(ups), down_at(downs);
  ExpertWeights experts;
  experts.gate = gate_at.placed;
  experts.up = up_at.placed;
  experts.down = down_at.placed;
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int j = 0; j < kChoices; ++j) ids.push_back(static_cast<int32_t>((t % 5 + 3 * j) % kExperts));
  }
  const Matrix x = random_matrix(random, DType::kBF16, kTokens, kHidden, 1.f, 0);
  const HostTensor weights = random_tensor(random, DType::kF32, {kTokens, kChoices}, 0.5f);
  const OnDevice dx(x), dids(int_tensor(ids, {kTokens, kChoices})), dweights(weights);
  const auto run = [&](int64_t begin, int64_t count) {
    OnDevice partials(poisoned(DType::kF32, {1, count, kHidden}));
    run_on(few_rows_ops(), [&](Ops& ops) {
      ops.moe(dx.view.rows(begin, count), dids.view.rows(begin, count), dweights.view.rows(begin, count), experts,
              nullptr, {}, partials);
    });
    return partials.host();
  };
  const HostTensor all = run(0, kTokens);
  for (int64_t t : {int64_t{0}, int64_t{4}, int64_t{17}, kTokens - 1}) {
    const HostTensor alone = run(t, 1);
    EXPECT_EQ(0, std::memcmp(alone.bytes.data(), all.bytes.data() + t * kHidden * 4, kHidden * 4)) << "token " << t;
  }
}

}  // namespace
}  // namespace hylas::test
