// Ops::moe on the CPU: right against double precision, and every bit the same whatever the batch, the threads, the
// tensor-parallel size and the ranks that hold the experts; with one expert of weight 1 it is the dense FFN.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/kernel_case.h"
#include "support/reference_ops_linear.h"

namespace hylas::test {
namespace {

// A layer with its inputs: every token takes `choices` different experts.
struct Layer {
  std::vector<Matrix> matrices;
  ExpertWeights experts;
  SharedExpertWeights shared;
  Matrix x;
  std::vector<int32_t> id_memory;
  std::vector<float> weight_memory;
  std::vector<float> logit_memory;
  Tensor ids;
  Tensor weights;
  Tensor logit;
};

class MoeTest : public testing::TestWithParam<KernelCase> {
 protected:
  LinearWeight matrix(Layer& layer, int64_t rows, int64_t columns) {
    layer.matrices.push_back(random_matrix(random_, GetParam().weight, rows, columns, 0.08f));
    return layer.matrices.back().weight();
  }
  Layer layer(int64_t tokens, int64_t hidden, int64_t width, int64_t shared_width, int experts, int choices) {
    Layer layer;
    for (int e = 0; e < experts; ++e) {
      layer.experts.gate.push_back(matrix(layer, width, hidden));
      layer.experts.up.push_back(matrix(layer, width, hidden));
      layer.experts.down.push_back(matrix(layer, hidden, width));
    }
    layer.shared.gate = matrix(layer, shared_width, hidden);
    layer.shared.up = matrix(layer, shared_width, hidden);
    layer.shared.down = matrix(layer, hidden, shared_width);
    layer.x = random_matrix(random_, GetParam().act, tokens, hidden, 1.f, 3);
    std::vector<int32_t> order(static_cast<size_t>(experts));
    for (int e = 0; e < experts; ++e) order[static_cast<size_t>(e)] = e;
    std::uniform_real_distribution<float> uniform(0.f, 1.f);
    for (int64_t t = 0; t < tokens; ++t) {
      std::shuffle(order.begin(), order.end(), random_);
      for (int j = 0; j < choices; ++j) {
        layer.id_memory.push_back(order[static_cast<size_t>(j)]);
        layer.weight_memory.push_back(uniform(random_));
      }
      layer.logit_memory.push_back(uniform(random_) * 4 - 2);
    }
    layer.ids = Tensor(layer.id_memory.data(), DType::kI32, {tokens, choices});
    layer.weights = Tensor(layer.weight_memory.data(), DType::kF32, {tokens, choices});
    layer.logit = Tensor(layer.logit_memory.data(), DType::kF32, {tokens, 1});
    return layer;
  }
  std::unique_ptr<Ops> ops(int threads) { return GetParam().ops(threads); }
  // partials of tokens [begin, begin + tokens).
  static std::vector<float> run(Ops& ops, const Layer& layer, const ExpertWeights& experts,
                                const SharedExpertWeights* shared, int slices, int64_t begin, int64_t tokens) {
    int64_t hidden = layer.x.view.dim(1);
    std::vector<float> partials(static_cast<size_t>(slices * tokens * hidden), std::nanf(""));
    ops.moe(layer.x.view.rows(begin, tokens), layer.ids.rows(begin, tokens), layer.weights.rows(begin, tokens), experts,
            shared, shared ? layer.logit.rows(begin, tokens) : Tensor(),
            Tensor(partials.data(), DType::kF32, {slices, tokens, hidden}));
    return partials;
  }
  static std::vector<float> run(Ops& ops, const Layer& layer, int slices) {
    return run(ops, layer, layer.experts, &layer.shared, slices, 0, layer.x.view.dim(0));
  }

  std::mt19937 random_{4};
};
INSTANTIATE_TEST_SUITE_P(Kinds, MoeTest, testing::ValuesIn(kernel_cases()),
                         kernel_case_name<testing::TestParamInfo<KernelCase>>);

// Adds weight * (down product over [begin, end)) of one expert to `sum`.
void add_reference(const std::vector<double>& hidden, const LinearWeight& down, double weight, int64_t begin,
                   int64_t end, std::vector<double>& sum) {
  for (size_t n = 0; n < sum.size(); ++n) {
    double product = 0;
    for (int64_t k = begin; k < end; ++k) {
      product += hidden[static_cast<size_t>(k)] * weight_element(down, static_cast<int64_t>(n), k);
    }
    sum[n] += weight * product;
  }
}

TEST_P(MoeTest, EqualsTheReference) {
  auto ops = this->ops(2);
  int64_t unit = GetParam().weight == DType::kF8E4M3 ? 128 : 8;
  // A hidden value that lands on the other side of a rounding boundary moves by one bf16 step.
  double tolerance = GetParam().act == DType::kBF16 ? 2e-3 : 1e-5;
  for (int64_t tokens : {1, 3, 30}) {
    Layer layer = this->layer(tokens, 96, 136, 72, 5, 2);
    for (int slices : {1, 2, 4}) {
      std::vector<float> partials = run(*ops, layer, slices);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int s = 0; s < slices; ++s) {
          std::vector<double> sum(96);
          auto add = [&](const LinearWeight& gate, const LinearWeight& up, const LinearWeight& down, double weight) {
            int64_t width = gate.weight.dim(0);
            add_reference(reference_mlp_hidden(layer.x.view, t, gate, up), down, weight,
                          slice_begin(width, unit, s, slices), slice_begin(width, unit, s + 1, slices), sum);
          };
          for (int j = 0; j < 2; ++j) {
            size_t e = static_cast<size_t>(layer.ids.row<int32_t>(t)[j]);
            add(layer.experts.gate[e], layer.experts.up[e], layer.experts.down[e], layer.weights.row<float>(t)[j]);
          }
          add(layer.shared.gate, layer.shared.up, layer.shared.down,
              1 / (1 + std::exp(-layer.logit_memory[static_cast<size_t>(t)])));
          const float* got = partials.data() + (s * tokens + t) * 96;
          for (size_t n = 0; n < 96; ++n)
            ASSERT_NEAR(got[n], sum[n], tolerance * (1 + std::abs(sum[n]))) << "token " << t << " slice " << s;
        }
      }
    }
  }
}

TEST_P(MoeTest, ATokenIsTheSameInEveryBatchOnAnyNumberOfThreads) {
  Layer layer = this->layer(600, 64, 40, 24, 6, 3);
  auto one = this->ops(1);
  std::vector<std::vector<float>> alone;
  for (int64_t t = 0; t < 600; ++t) alone.push_back(run(*one, layer, layer.experts, &layer.shared, 4, t, 1));
  for (int threads : {1, 2, 5}) {
    auto ops = this->ops(threads);
    for (int64_t tokens : {2, 9, 64, 600}) {
      std::vector<float> partials = run(*ops, layer, layer.experts, &layer.shared, 4, 0, tokens);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t s = 0; s < 4; ++s) {
          ASSERT_EQ(std::memcmp(partials.data() + (s * tokens + t) * 64, alone[static_cast<size_t>(t)].data() + s * 64,
                                64 * sizeof(float)),
                    0)
              << "token " << t << " of " << tokens << ", slice " << s;
        }
      }
    }
  }
}

// Rows [begin, end) of gate and up, columns [begin, end) of down: a tensor-parallel shard of an expert.
LinearWeight row_shard(const LinearWeight& weight, int64_t begin, int64_t end) {
  LinearWeight part{weight.weight.rows(begin, end - begin), weight.scale};
  if (weight.scale) part.scale = weight.scale.rows(begin / 128, (end + 127) / 128 - begin / 128);
  return part;
}
LinearWeight column_shard(const LinearWeight& weight, int64_t begin, int64_t end) {
  LinearWeight part{weight.weight.columns(begin, end - begin), weight.scale};
  if (weight.scale) part.scale = weight.scale.columns(begin / 128, (end + 127) / 128 - begin / 128);
  return part;
}

TEST_P(MoeTest, OneTwoAndFourRanksAddTheSameNumbers) {
  auto ops = this->ops(2);
  int64_t unit = GetParam().weight == DType::kF8E4M3 ? 128 : 8;
  for (int64_t tokens : {1, 40}) {
    Layer layer = this->layer(tokens, 128, 4 * unit + 3 * unit, 4 * unit, 4, 2);
    std::vector<float> whole = run(*ops, layer, 4);
    for (int ranks : {2, 4}) {
      std::vector<float> parts;
      for (int rank = 0; rank < ranks; ++rank) {
        auto begin = [&](int64_t width, int r) { return slice_begin(width, unit, r * 4 / ranks); };
        int64_t from = begin(7 * unit, rank), to = begin(7 * unit, rank + 1);
        ExpertWeights experts;
        for (size_t e = 0; e < 4; ++e) {
          experts.gate.push_back(row_shard(layer.experts.gate[e], from, to));
          experts.up.push_back(row_shard(layer.experts.up[e], from, to));
          experts.down.push_back(column_shard(layer.experts.down[e], from, to));
        }
        int64_t shared_from = begin(4 * unit, rank), shared_to = begin(4 * unit, rank + 1);
        SharedExpertWeights shared{row_shard(layer.shared.gate, shared_from, shared_to),
                                   row_shard(layer.shared.up, shared_from, shared_to),
                                   column_shard(layer.shared.down, shared_from, shared_to)};
        std::vector<float> part = run(*ops, layer, experts, &shared, 4 / ranks, 0, tokens);
        parts.insert(parts.end(), part.begin(), part.end());
      }
      ASSERT_EQ(std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)), 0) << ranks << " ranks";
    }
  }
}

TEST_P(MoeTest, ExpertsHeldElsewhereAddNothing) {
  auto ops = this->ops(2);
  for (int64_t tokens : {1, 40}) {
    Layer layer = this->layer(tokens, 64, 32, 32, 6, 2);
    ExpertWeights held;
    held.expert_begin = 2;
    for (size_t e = 2; e < 4; ++e) {
      held.gate.push_back(layer.experts.gate[e]);
      held.up.push_back(layer.experts.up[e]);
      held.down.push_back(layer.experts.down[e]);
    }
    std::vector<float> partials = run(*ops, layer, held, nullptr, 1, 0, tokens);
    // The same with the other experts' weights set to zero.
    Layer masked = layer;
    masked.weights.data = masked.weight_memory.data();
    for (size_t i = 0; i < masked.id_memory.size(); ++i) {
      if (masked.id_memory[i] < 2 || masked.id_memory[i] > 3) masked.weight_memory[i] = 0;
    }
    EXPECT_EQ(partials, run(*ops, masked, layer.experts, nullptr, 1, 0, tokens)) << tokens;
  }
}

// A rank's share of the experts, and the rows that it computes for others.
struct ExpertRank {
  ExpertWeights experts;
  std::vector<int32_t> tokens;  // of each row
  std::vector<int32_t> ids;
};

// Every pair goes to the rank that holds its expert, in random order; index [T, k] says which row of all ranks' it is.
std::vector<ExpertRank> dispatch(const Layer& layer, const std::vector<int32_t>& bounds, std::mt19937& random,
                                 std::vector<int32_t>& index) {
  std::vector<ExpertRank> ranks(bounds.size() - 1);
  std::vector<std::vector<size_t>> pairs(ranks.size());
  for (size_t r = 0; r < ranks.size(); ++r) {
    ExpertWeights& experts = ranks[r].experts;
    experts.expert_begin = bounds[r];
    auto part = [&](const std::vector<LinearWeight>& all) {
      return std::vector<LinearWeight>(all.begin() + bounds[r], all.begin() + bounds[r + 1]);
    };
    experts.gate = part(layer.experts.gate);
    experts.up = part(layer.experts.up);
    experts.down = part(layer.experts.down);
    for (size_t i = 0; i < layer.id_memory.size(); ++i) {
      if (layer.id_memory[i] >= bounds[r] && layer.id_memory[i] < bounds[r + 1]) pairs[r].push_back(i);
    }
    std::shuffle(pairs[r].begin(), pairs[r].end(), random);
  }
  index.resize(layer.id_memory.size());
  int32_t row = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (size_t i : pairs[r]) {
      ranks[r].tokens.push_back(static_cast<int32_t>(static_cast<int64_t>(i) / layer.ids.dim(1)));
      ranks[r].ids.push_back(layer.id_memory[i]);
      index[i] = row++;
    }
  }
  return ranks;
}

// moe() by moe_expert_rows on every rank and moe_combine.
std::vector<float> run_in_halves(Ops& ops, const Layer& layer, const std::vector<int32_t>& bounds, int slices,
                                 const SharedExpertWeights* shared, std::mt19937& random) {
  std::vector<int32_t> index;
  int64_t tokens = layer.ids.dim(0), choices = layer.ids.dim(1), hidden = layer.x.view.dim(1);
  int64_t pairs = tokens * choices, done = 0;
  std::vector<float> rows(static_cast<size_t>(slices * pairs * hidden), std::nanf(""));
  for (ExpertRank& rank : dispatch(layer, bounds, random, index)) {
    int64_t count = static_cast<int64_t>(rank.ids.size());
    Matrix x = poisoned_matrix(layer.x.view.dtype, count, hidden, 5);
    ops.gather_rows(layer.x.view, Tensor(rank.tokens.data(), DType::kI32, {count}), x.view);
    std::vector<float> part(static_cast<size_t>(slices * count * hidden), std::nanf(""));
    ops.moe_expert_rows(x.view, Tensor(rank.ids.data(), DType::kI32, {count, 1}), rank.experts,
                        Tensor(part.data(), DType::kF32, {slices, count, hidden}), {});
    for (int64_t s = 0; s < slices; ++s) {
      std::copy_n(part.data() + s * count * hidden, count * hidden, rows.data() + (s * pairs + done) * hidden);
    }
    done += count;
  }
  std::vector<float> partials(static_cast<size_t>(slices * tokens * hidden), std::nanf(""));
  ops.moe_combine(Tensor(rows.data(), DType::kF32, {slices, pairs, hidden}),
                  Tensor(index.data(), DType::kI32, {tokens, choices}), layer.weights, layer.x.view, shared,
                  shared ? layer.logit : Tensor(), Tensor(partials.data(), DType::kF32, {slices, tokens, hidden}));
  return partials;
}

// The same where every rank gets all tokens with all their choices and writes the rows of the experts that it holds.
// The shared expert's rows come with them, and are those of moe() with no other expert.
std::vector<float> run_in_place(Ops& ops, const Layer& layer, const std::vector<int32_t>& bounds, int slices,
                                const SharedExpertWeights* shared, std::mt19937& random) {
  std::vector<int32_t> index;
  int64_t tokens = layer.ids.dim(0), choices = layer.ids.dim(1), hidden = layer.x.view.dim(1);
  std::vector<float> rows(static_cast<size_t>(slices * tokens * choices * hidden), std::nanf(""));
  std::vector<float> shared_rows(static_cast<size_t>(slices * tokens * hidden), std::nanf("")), alone = shared_rows;
  const Tensor all(rows.data(), DType::kF32, {slices, tokens * choices, hidden});
  const Tensor of_shared(shared_rows.data(), DType::kF32, {slices, tokens, hidden});
  for (const ExpertRank& rank : dispatch(layer, bounds, random, index)) {
    ops.moe_expert_rows(layer.x.view, layer.ids, rank.experts, all, {shared, layer.x.view, of_shared});
  }
  if (shared) {  // sigmoid(100) is 1 in f32
    std::vector<float> logit(static_cast<size_t>(tokens), 100.f);
    ops.moe(layer.x.view, layer.ids, layer.weights, {}, shared, Tensor(logit.data(), DType::kF32, {tokens, 1}),
            Tensor(alone.data(), DType::kF32, {slices, tokens, hidden}));
    EXPECT_EQ(shared_rows, alone);
  }
  std::vector<int32_t> in_place(static_cast<size_t>(tokens * choices));
  std::iota(in_place.begin(), in_place.end(), 0);
  std::vector<float> partials(static_cast<size_t>(slices * tokens * hidden), std::nanf(""));
  ops.moe_combine(all, Tensor(in_place.data(), DType::kI32, {tokens, choices}), layer.weights, layer.x.view, shared,
                  shared ? layer.logit : Tensor(), Tensor(partials.data(), DType::kF32, {slices, tokens, hidden}));
  return partials;
}

TEST_P(MoeTest, ExpertsOfSeveralRanksAddTheSameNumbers) {
  auto ops = this->ops(2);
  for (int64_t tokens : {0, 1, 7, 40, 700}) {
    Layer layer = this->layer(tokens, 72, 264, 40, 7, 3);
    for (int slices : {1, 2, 4}) {
      for (const SharedExpertWeights* shared :
           std::initializer_list<const SharedExpertWeights*>{nullptr, &layer.shared}) {
        std::vector<float> whole = run(*ops, layer, layer.experts, shared, slices, 0, tokens);
        for (const std::vector<int32_t>& bounds : {std::vector{0, 7}, {0, 3, 7}, {0, 1, 1, 6, 7}}) {
          std::vector<float> halves = run_in_halves(*ops, layer, bounds, slices, shared, random_);
          ASSERT_EQ(halves.size(), whole.size());
          ASSERT_TRUE(whole.empty() || std::memcmp(halves.data(), whole.data(), whole.size() * sizeof(float)) == 0)
              << tokens << " tokens, " << slices << " slices, " << bounds.size() - 1 << " ranks";
          halves = run_in_place(*ops, layer, bounds, slices, shared, random_);
          ASSERT_TRUE(whole.empty() || std::memcmp(halves.data(), whole.data(), whole.size() * sizeof(float)) == 0)
              << "in place: " << tokens << " tokens, " << slices << " slices, " << bounds.size() - 1 << " ranks";
        }
      }
    }
  }
}

TEST_P(MoeTest, OneExpertOfWeightOneIsTheDenseFfn) {
  auto ops = this->ops(2);
  DType act = GetParam().act;
  for (int64_t tokens : {1, 8, 70}) {
    Layer layer = this->layer(tokens, 64, 88, 8, 1, 1);
    std::fill(layer.weight_memory.begin(), layer.weight_memory.end(), 1.f);
    std::vector<float> moe = run(*ops, layer, layer.experts, nullptr, 4, 0, tokens);
    Matrix gate = poisoned_matrix(act, tokens, 88);
    Matrix up = poisoned_matrix(act, tokens, 88);
    Matrix hidden = poisoned_matrix(act, tokens, 88);
    LinearWeight weights[] = {layer.experts.gate[0], layer.experts.up[0]};
    Tensor outs[] = {gate.view, up.view};
    ops->linear(layer.x.view, weights, outs);
    ops->silu_mul(gate.view, up.view, hidden.view);
    std::vector<float> dense(moe.size());
    ops->linear_partial(hidden.view, layer.experts.down[0], Tensor(dense.data(), DType::kF32, {4, tokens, 64}));
    EXPECT_EQ(moe, dense) << tokens << " tokens";
  }
}

}  // namespace
}  // namespace hylas::test
