#include "ops/cpu/moe.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace hylas::cpu {
namespace {

// Tokens, and rows of single experts, taken at once: bounds the scratch memory, still enough rows per expert to be
// worth its weights.
constexpr int64_t kMoeTokens = 8 * kRowBlock;
constexpr int64_t kMoeRows = 64 * kRowBlock;

void check_experts(const ExpertWeights& experts) {
  HYLAS_CHECK(experts.gate.size() == experts.up.size() && experts.gate.size() == experts.down.size(),
              "{} gate, {} up, {} down experts", experts.gate.size(), experts.up.size(), experts.down.size());
}

// [slices, x's rows, x's columns] f32.
void check_slices(const Tensor& partials, const Tensor& x) {
  HYLAS_CHECK(
      partials.rank == 3 && partials.dtype == DType::kF32 && partials.dim(1) == x.dim(0) && partials.dim(2) == x.dim(1),
      "[{}, {}, {}] for x [{}, {}]", partials.dim(0), partials.dim(1), partials.dim(2), x.dim(0), x.dim(1));
}

// Where the routed products of a block are: value(t, j, s) is the first of outputs [begin, end), null for none.
// partials[..., begin, end) = their sum in top-k order, then the shared expert's.
struct Sum {
  const GemmKernels& kernels;
  Tensor weights;       // [tokens, k]
  Tensor shared_logit;  // [tokens, 1]
  Tensor partials;      // [slices, tokens of the call, H]
  int64_t token_begin;  // of the block

  template <class Value>
  void run(int64_t tokens, int64_t begin, int64_t end, const float* shared_products, Value&& value) const {
    int64_t columns = end - begin, slices = partials.dim(0);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t s = 0; s < slices; ++s) {
        float* sum = partials.row<float>(s) + (token_begin + t) * partials.dim(2) + begin;
        std::fill_n(sum, columns, 0.f);
        for (int64_t j = 0; j < weights.dim(1); ++j) {
          const float* product = value(t, j, s);
          if (product != nullptr) kernels.add_scaled(product, weights.row<float>(t)[j], columns, sum);
        }
        if (shared_products == nullptr) continue;
        float gate = 1.f / (1.f + std::exp(-*shared_logit.row<float>(t)));
        kernels.add_scaled(shared_products + (t * slices + s) * columns, gate, columns, sum);
      }
    }
  }
};

}  // namespace

void moe(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& x, const Tensor& ids,
         const Tensor& weights, const ExpertWeights& experts, const SharedExpertWeights* shared,
         const Tensor& shared_logit, const Tensor& partials) {
  check_experts(experts);
  check_slices(partials, x);
  int64_t slices = partials.dim(0);
  for (int64_t first = 0; first < x.dim(0); first += kMoeTokens) {
    int64_t tokens = std::min(kMoeTokens, x.dim(0) - first);
    ExpertCall call{pool, gemm, scratch, x.rows(first, tokens), ids.rows(first, tokens), &experts, shared, slices};
    Sum sum{*gemm.kernels, weights.rows(first, tokens), shared ? shared_logit.rows(first, tokens) : Tensor(), partials,
            first};
    int64_t pairs = prepare_runs(call);
    for_output_pieces(call, [&](int64_t begin, int64_t end, GemmScratch::PerThread& memory) {
      const float* products = down_products(call, pairs, begin, end, memory);
      auto at = [&](int64_t row) { return products + row * slices * (end - begin); };
      sum.run(tokens, begin, end, shared ? at(pairs) : nullptr, [&](int64_t t, int64_t j, int64_t s) -> const float* {
        int64_t pair = call.pair(t, j);
        return pair < 0 ? nullptr : at(pair) + s * (end - begin);
      });
    });
  }
}

void moe_expert_rows(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& x, const Tensor& ids,
                     const ExpertWeights& experts, const Tensor& rows) {
  check_experts(experts);
  int64_t slices = rows.dim(0), choices = ids.dim(1);
  HYLAS_CHECK(rows.rank == 3 && rows.dtype == DType::kF32 && ids.dim(0) == x.dim(0) &&
                  rows.dim(1) == x.dim(0) * choices && rows.dim(2) == x.dim(1),
              "rows [{}, {}, {}] of x [{}, {}] and ids [{}, {}]", rows.dim(0), rows.dim(1), rows.dim(2), x.dim(0),
              x.dim(1), ids.dim(0), choices);
  int64_t tokens_max = std::max<int64_t>(kMoeRows / choices, 1);
  for (int64_t first = 0; first < x.dim(0); first += tokens_max) {
    int64_t count = std::min(tokens_max, x.dim(0) - first);
    ExpertCall call{pool, gemm, scratch, x.rows(first, count), ids.rows(first, count), &experts, nullptr, slices};
    int64_t pairs = prepare_runs(call);
    if (pairs == 0) continue;
    for_output_pieces(call, [&](int64_t begin, int64_t end, GemmScratch::PerThread& memory) {
      const float* products = down_products(call, pairs, begin, end, memory);
      for (int64_t i = 0; i < count * choices; ++i) {
        int64_t pair = call.pair(i / choices, i % choices);
        for (int64_t s = 0; s < slices && pair >= 0; ++s) {
          std::memcpy(rows.row<float>(s) + (first * choices + i) * rows.dim(2) + begin,
                      products + (pair * slices + s) * (end - begin), static_cast<size_t>(end - begin) * sizeof(float));
        }
      }
    });
  }
}

void moe_shared_rows(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const SharedRows& shared) {
  const Tensor& x = shared.x.values;
  check_slices(shared.rows, x);
  int64_t slices = shared.rows.dim(0);
  for (int64_t first = 0; first < x.dim(0); first += kMoeTokens) {
    int64_t tokens = std::min(kMoeTokens, x.dim(0) - first);
    ExpertCall call{pool, gemm, scratch, x.rows(first, tokens), {}, nullptr, shared.weights, slices};
    prepare_runs(call);
    for_output_pieces(call, [&](int64_t begin, int64_t end, GemmScratch::PerThread& memory) {
      const float* products = down_products(call, 0, begin, end, memory);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t s = 0; s < slices; ++s) {
          std::copy_n(products + (t * slices + s) * (end - begin), end - begin,
                      shared.rows.row<float>(s) + (first + t) * shared.rows.dim(2) + begin);
        }
      }
    });
  }
}

void moe_combine(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& rows, const Tensor& index,
                 const Tensor& weights, const Tensor& x, const SharedExpertWeights* shared, const Tensor& shared_logit,
                 const Tensor& partials) {
  check_slices(partials, x);
  HYLAS_CHECK(rows.rank == 3 && rows.dtype == DType::kF32 && rows.dim(0) == partials.dim(0) &&
                  rows.dim(2) == x.dim(1) && index.dim(0) == x.dim(0) && index.dim(1) == weights.dim(1),
              "rows [{}, {}, {}] and index [{}, {}] for x [{}, {}]", rows.dim(0), rows.dim(1), rows.dim(2),
              index.dim(0), index.dim(1), x.dim(0), x.dim(1));
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t j = 0; j < index.dim(1); ++j) {
      int32_t row = index.row<int32_t>(t)[j];
      HYLAS_CHECK(row >= 0 && row < rows.dim(1), "row {} of {}", row, rows.dim(1));
    }
  }
  int64_t slices = partials.dim(0);
  for (int64_t first = 0; first < x.dim(0); first += kMoeTokens) {
    int64_t tokens = std::min(kMoeTokens, x.dim(0) - first);
    ExpertCall call{pool, gemm, scratch, x.rows(first, tokens), {}, nullptr, shared, slices};
    Sum sum{*gemm.kernels, weights.rows(first, tokens), shared ? shared_logit.rows(first, tokens) : Tensor(), partials,
            first};
    prepare_runs(call);
    for_output_pieces(call, [&](int64_t begin, int64_t end, GemmScratch::PerThread& memory) {
      const float* products = down_products(call, 0, begin, end, memory);
      sum.run(tokens, begin, end, shared ? products : nullptr, [&](int64_t t, int64_t j, int64_t s) {
        return rows.row<float>(s) + int64_t{index.row<int32_t>(first + t)[j]} * rows.dim(2) + begin;
      });
    });
  }
}

}  // namespace hylas::cpu
