#pragma once
// OpsCuda: checks the shapes that ops.h promises and launches kernels in the device's stream.
#include <functional>
#include <memory>

#include "ops/cuda/delta_mixer.h"
#include "ops/cuda/fork.h"
#include "ops/cuda/gemm_decode.h"
#include "ops/cuda/gemm_large.h"
#include "ops/cuda/graphs.h"
#include "ops/cuda/moe.h"
#include "ops/cuda/sampler.h"
#include "ops/cuda/workspace.h"
#include "ops/cuda_ops.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

class OpsCuda final : public Ops {
 public:
  static Result<std::unique_ptr<Ops>> make(const CudaOpsOptions& options);

  Device& device() override { return *device_; }
  // Four would cost a prefill four times the traffic of every expert's results.
  int32_t expert_slices_total() const override { return 1; }
  // The FP8 tensor cores' products come as one sum in bf16.
  int32_t linear_slices_total() const override { return fp8_.linear ? 1 : kSlicesTotal; }
  RowForm row_form(const LinearWeight& weight, DType act, int64_t rows) const override;
  RowForm row_form(const ExpertWeights& experts, int64_t choices, DType act, int64_t rows) const override;
  RowForm silu_mul_form(const LinearWeight& down, DType act, int64_t rows) const override;
  DType partial_type(const LinearWeight& weight, DType act, int64_t rows, SumOver over) const override;
  void replay(uint64_t key, const std::function<void()>& body) override { graphs_.replay(key, body); }
  void embed(const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out) override;
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const ActRows& out) override;
  void add_rms_norm(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
                    const ActRows& out) override;
  void add_rms_norm_over(const PeerPartials& partials, const Tensor& residual, const Tensor& weight, float eps,
                         const ActRows& out) override;
  void gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, float eps, const ActRows& out) override;
  void linear(const ActRows& x, std::span<const LinearWeight> weights, std::span<const Tensor> outs) override;
  void linear_partial(const ActRows& x, const LinearWeight& weight, const Tensor& partials) override;
  void rope_table(const Tensor& positions, const RopeConfig& rope, const Tensor& table) override;
  void qk_norm_rope_kv_write(const Tensor& qg, const Tensor& k, const Tensor& v, const Tensor& q_norm,
                             const Tensor& k_norm, float eps, const Tensor& rope_table, const Batch& batch,
                             const KvPool& kv, const Tensor& q_out) override;
  void attention(const Tensor& q, const Tensor& qg, const Batch& batch, const KvPool& kv, float scale,
                 const ActRows& out) override;
  void conv_silu(const Tensor& u, const Tensor& weight, const Tensor& pool, const Batch& batch,
                 const Tensor& out) override;
  void delta_rule(const Tensor& qkv, const Tensor& a, const Tensor& b, const Tensor& a_log, const Tensor& dt_bias,
                  const DeltaShape& shape, const Tensor& pool, const Batch& batch, const Tensor& out) override;
  void delta_mixer(const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& b, const DeltaWeights& weights,
                   const DeltaShape& shape, const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch,
                   const Tensor& c, const ActRows& out) override;
  void delta_layer(const ActRows& x, const DeltaInputs& inputs, const DeltaWeights& weights, const DeltaShape& shape,
                   const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch, const DeltaRows& rows,
                   const LinearWeight& last, const Tensor& partials, const NormBehind* behind) override;
  void silu_mul(const Tensor& gate, const Tensor& up, const ActRows& out) override;
  void linear_silu_mul(const ActRows& x, const LinearWeight& gate, const LinearWeight& up, const ActRows& out,
                       const Tensor& scratch) override;
  void moe_route(const Tensor& logits, const Tensor& ids, const Tensor& weights) override;
  void moe(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
           const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) override;
  void moe_add_rms_norm(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
                        const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials,
                        const Tensor& residual, const Tensor& norm, float eps, const ActRows& out) override;
  ExpertRowForms expert_row_forms(const Tensor& x, const Tensor& ids, const ExpertWeights& experts,
                                  int32_t slices) override;
  void moe_sorted_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                              const Tensor& index, const SharedRows& shared) override;
  void moe_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                       const SharedRows& shared) override;
  void moe_combine(const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
                   const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) override;
  size_t row_layers_max() const override;
  size_t row_layers_taken(std::span<const RowLayer> layers, const Tensor& hidden, const Batch& batch) override;
  void row_layers(std::span<const RowLayer> layers, const Tensor& mixed, const Tensor& hidden, const RowBehind& behind,
                  float eps, const Batch& batch) override;
  bool row_products_taken(std::span<const LinearWeight> weights) override;
  // How many layers row_layers() has taken so far, records included.
  int64_t row_layers_run() const { return row_layers_run_; }
  void gather_rows(const Tensor& x, const Tensor& index, const Tensor& out) override;
  void convert(const Tensor& x, const Tensor& out) override;
  void concat_columns(const Tensor& a, const Tensor& b, const Tensor& out) override;
  void sample(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
              std::span<SampleResult> results) override;
  void sample_ahead(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                    std::span<const int32_t> slots, const Tensor& last_tokens, const Tensor& drawn) override;
  void feed(const Tensor& ids, const Tensor& last_tokens) override;
  void logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                std::span<SampleResult> results) override;

 private:
  OpsCuda(std::unique_ptr<CudaDevice> device, const CudaOpsOptions& options)
      : device_(std::move(device)),
        fp8_(options.fp8),
        prefill_(options.prefill),
        decode_(device_->multiprocessors()),
        sampler_(*device_),
        graphs_(*device_) {}
  Stream stream() const { return side_ ? side_ : device_->stream(); }
  // The operators that `body` calls go to `side`, a stream beside the device's, with `memory` as their workspace.
  void on_side(Stream side, Workspace memory, const std::function<void()>& body);
  bool runs_beside(const Product& product) const;
  DeltaMixerArgs mixer_args(const DeltaRows& rows, const DeltaWeights& weights, const DeltaShape& shape,
                            const Tensor& conv_pool, const Tensor& delta_pool, const Batch& batch);
  void multiply(const Product& product);
  // Matrices over the same rows, by the kernel that takes them.
  struct Together {
    Product bf16, small, gates, fp8, fp8_rows;  // small: bf16 of few outputs; gates: of few over many rows
  };
  void multiply_together(Together& together);
  void multiply_quantized(std::span<Product> products);
  void check_form(const ActRows& x, const Product& product) const;
  void quantize(const ActRows& rows, int64_t begin);
  bool takes_fp8(const Product& product) const;
  bool takes_fp8_rows(const Product& product) const;
  bool takes_decode(const Product& product) const;
  bool takes_row_layer(const RowLayer& layer);

  std::unique_ptr<CudaDevice> device_;  // before what lives on it
  CudaFp8Options fp8_;
  CudaPrefillOptions prefill_;
  bool takes_row_layers_ = false;
  Buffer row_memory_;  // what a launch of row_layers hands itself
  int64_t row_layers_run_ = 0;
  Buffer memory_;
  Workspace workspace_;
  std::unique_ptr<Moe> moe_;
  std::unique_ptr<LargeGemm> large_;
  DecodeGemm decode_;
  Fork fork_;
  Stream side_ = nullptr;    // while it is given, operators are launched there
  int32_t side_blocks_ = 0;  // multiprocessors that they find free
  Sampler sampler_;
  Graphs graphs_;
};

}  // namespace hylas::cuda
