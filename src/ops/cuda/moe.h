#pragma once
// Ops::moe and its two halves on the GPU: tokens sorted by expert, grouped products, a sum in top-k order.
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ops/cuda/fork.h"
#include "ops/cuda/norm.h"
#include "ops/cuda/products.h"
#include "ops/cuda/workspace.h"
#include "ops/cuda_ops.h"
#include "ops/fp8_plan.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

// What a layer's experts look like to the kernels.
struct ExpertTable {
  std::vector<WeightView> host;  // gate, up and down of every expert, one kind after the other
  const WeightView* device = nullptr;
  bool tensor_cores = false;  // all at places that gemm_bf16 takes
  // All FP8, and gate and up of an expert, all experts' pairs of them, and all down matrices lie one behind the other,
  // their scales too: what fp8_multiply_grouped takes.
  bool together = false;
};

// Of the choices of `tokens`, k each, those to expect here.
inline int64_t pairs_here(int64_t tokens, int64_t k, const ExpertWeights& experts) {
  return expected_pairs(tokens, k, static_cast<int64_t>(experts.gate.size()), experts.experts_total);
}

// Not thread-safe. Holds a table per layer in memory taken at start; a table is made at a layer's first call.
class Moe {
 public:
  // `fork` outlives it.
  static Result<std::unique_ptr<Moe>> make(CudaDevice& device, Fork& fork, const CudaFp8Options& fp8);

  // `behind`: the norm of what the partials are added to, or null. Its sums may be left out.
  void moe(Workspace& workspace, const ActRows& x, const Tensor& ids, const Tensor& weights,
           const ExpertWeights& experts, const SharedExpertWeights* shared, const Tensor& shared_logit,
           const Tensor& partials, const AddNormArgs* behind);
  // moe() up to the products of every choice, f32, by choice and the shared expert's behind them: of one or two tokens
  // whose experts are all here and the shared one like them. Data null: it is none of these, and nothing is done.
  View choice_rows(Workspace& workspace, const Tensor& x, const Tensor& ids, const ExpertWeights& experts,
                   const SharedExpertWeights* shared);
  // Gate and down matrix of the first expert, if all experts are FP8 and lie one behind the other; else none.
  std::optional<std::pair<WeightView, WeightView>> together(const ExpertWeights& experts);
  ExpertRowForms row_forms(Workspace& workspace, const Tensor& x, int64_t k, const ExpertWeights& experts, int slices);
  // `index`: of rows that stay as they are sorted; or null.
  void expert_rows(Workspace& workspace, const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
                   const Tensor& rows, const Tensor& index, const SharedRows& shared);
  void combine(Workspace& workspace, const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
               const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials);

 private:
  // Products of experts (or of the shared one) over a block of tokens.
  struct Rows {
    View data;
    int64_t slice_stride = 0;
    const int32_t* pair_of = nullptr;
  };

  // Who makes the rows of single experts: neither of these, `routed` does.
  struct RowsWay {
    int64_t tile_tokens = 0;  // by whole tiles, so many tokens at a time
    int64_t sorted_rows = 0;  // ExpertRowForms::sorted_rows
    bool few = false;         // by fp8_few
    bool chosen = false;      // and of these by the kernel of few choices
    bool takes_fp8() const { return tile_tokens > 0 || (few && !chosen); }
  };

  Moe(CudaDevice& device, Fork& fork, const CudaFp8Options& fp8) : device_(device), fork_(fork), fp8_(fp8) {}
  const ExpertTable& table(const ExpertWeights& experts);
  Rows routed(Workspace& workspace, const Tensor& x, const Tensor& ids, const ExpertWeights& experts, int slices,
              const Tensor* out);
  Rows shared(Workspace& workspace, const Tensor& x, const SharedExpertWeights& experts, int slices, Stream stream,
              const Tensor* out);
  RowsWay rows_way(Workspace& workspace, const Tensor& x, int64_t k, const ExpertWeights& experts, int slices);
  // The same of the shared expert where it is alone: most likely as beside the others, of which there are so many
  // choices for `tokens_total` tokens of all ranks, since a rank may have few of the tokens.
  struct SharedWay {
    bool tiles = false;
    bool chosen = false;
  };
  static SharedWay shared_way(int64_t tokens_total, int64_t choices);
  void shared_rows(Workspace& workspace, const SharedRows& shared, const SharedWay& way, int64_t begin, int64_t tokens,
                   Stream stream);
  // moe_fp8.cc: experts of few rows each, on the FP8 tensor cores. Rows by pair, in `out` if it is given; with `shared`
  // as one more expert behind them. `chosen`: by the kernel of few choices (chosen_fp8_takes).
  bool takes_few(const Tensor& x, int64_t choices, const ExpertWeights& experts);
  static bool takes_as_expert(const SharedExpertWeights& shared, const ExpertWeights& experts);
  Rows fp8_few(Workspace& workspace, const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
               const SharedExpertWeights* shared, bool chosen, const Tensor* out, Stream stream);
  // moe_fp8.cc: a block of tokens on the FP8 tensor cores, as many of `tokens` as fit, and a multiple of 4 if these are
  // not all; 0: it cannot or should not.
  int64_t fp8_tokens(const Workspace& workspace, const Tensor& x, int64_t tokens, int64_t k,
                     const ExpertWeights& experts, const SharedExpertWeights* shared);
  // The rows and their index may go to memory that is given.
  Rows fp8_routed(Workspace& workspace, const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
                  const Tensor* out, const Tensor* index);
  int64_t fp8_sorted_rows(int64_t tokens, int64_t k, const ExpertWeights& experts);
  Rows fp8_shared(Workspace& workspace, const ActRows& x, const SharedExpertWeights& experts, Stream stream);
  // moe_fp8.cc: the shared expert alone.
  bool takes_fp8(const Tensor& x, const SharedExpertWeights& shared) const;
  // Few rows may go to `out`.
  Rows fp8_shared_alone(Workspace& workspace, const ActRows& x, const SharedExpertWeights& shared, const SharedWay& way,
                        Stream stream, const Tensor* out);

  CudaDevice& device_;
  Fork& fork_;
  CudaFp8Options fp8_;
  Buffer memory_;
  size_t used_ = 0;
  std::unordered_map<const LinearWeight*, ExpertTable> tables_;
};

}  // namespace hylas::cuda
