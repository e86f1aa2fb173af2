// OpsCpu: the operators on host memory. Each virtual forwards to a free function of this folder.
#include <sched.h>

#include <thread>

#include "ops/cpu/linear.h"
#include "ops/cpu/moe.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/scratch.h"
#include "ops/cpu/thread_pool.h"
#include "ops/ops.h"

namespace hylas {
namespace cpu {

// Owns its worker threads and scratch memory; one calling thread. Its products read values (Ops::row_form).
class OpsCpu final : public Ops {
 public:
  OpsCpu(int threads, Isa isa);

  Device& device() override;
  void embed(const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out) override;
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const ActRows& out) override;
  void add_rms_norm_over(const PeerPartials&, const Tensor&, const Tensor&, float, const ActRows&) override {
    HYLAS_CHECK(false, "ranks on CPUs show each other no partial sums");
  }
  void add_rms_norm(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
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
  void silu_mul(const Tensor& gate, const Tensor& up, const ActRows& out) override;
  void moe_route(const Tensor& logits, const Tensor& ids, const Tensor& weights) override;
  void moe(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
           const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) override;
  void moe_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                       const SharedRows& shared) override;
  void moe_combine(const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
                   const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) override;
  void gather_rows(const Tensor& x, const Tensor& index, const Tensor& out) override;
  void convert(const Tensor& x, const Tensor& out) override;
  void concat_columns(const Tensor& a, const Tensor& b, const Tensor& out) override;
  void sample_ahead(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                    std::span<const int32_t> slots, const Tensor& last_tokens, const Tensor& drawn) override;
  void feed(const Tensor& ids, const Tensor& last_tokens) override;
  void sample(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
              std::span<SampleResult> results) override;
  void logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                std::span<SampleResult> results) override;

 private:
  std::unique_ptr<Device> device_;
  ThreadPool pool_;
  Scratch scratch_;
  GemmScratch gemm_;
  MoeScratch moe_;
};

OpsCpu::OpsCpu(int threads, Isa isa)
    : device_(make_cpu_device()), pool_(threads), scratch_(threads, isa), gemm_(threads, isa) {}

Device& OpsCpu::device() { return *device_; }

void OpsCpu::embed(const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out) {
  cpu::embed(pool_, ids, table, vocab_begin, out);
}

void OpsCpu::rms_norm(const Tensor& x, const Tensor& weight, float eps, const ActRows& out) {
  cpu::rms_norm(pool_, scratch_, x, weight, eps, out.values);
}

void OpsCpu::add_rms_norm(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
                          const ActRows& out) {
  cpu::add_rms_norm(pool_, scratch_, partials, residual, weight, eps, out.values);
}

void OpsCpu::gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, float eps, const ActRows& out) {
  cpu::gated_rms_norm(pool_, scratch_, x, z, weight, eps, out.values);
}

void OpsCpu::linear(const ActRows& x, std::span<const LinearWeight> weights, std::span<const Tensor> outs) {
  cpu::linear(pool_, gemm_, x.values, weights, outs);
}

void OpsCpu::linear_partial(const ActRows& x, const LinearWeight& weight, const Tensor& partials) {
  cpu::linear_partial(pool_, gemm_, x.values, weight, partials);
}

void OpsCpu::rope_table(const Tensor& positions, const RopeConfig& rope, const Tensor& table) {
  cpu::rope_table(pool_, positions, rope, table);
}

void OpsCpu::qk_norm_rope_kv_write(const Tensor& qg, const Tensor& k, const Tensor& v, const Tensor& q_norm,
                                   const Tensor& k_norm, float eps, const Tensor& rope_table, const Batch& batch,
                                   const KvPool& kv, const Tensor& q_out) {
  cpu::qk_norm_rope_kv_write(pool_, scratch_, qg, k, v, q_norm, k_norm, eps, rope_table, batch, kv, q_out);
}

void OpsCpu::attention(const Tensor& q, const Tensor& qg, const Batch& batch, const KvPool& kv, float scale,
                       const ActRows& out) {
  cpu::attention(pool_, scratch_, q, qg, batch, kv, scale, out.values);
}

void OpsCpu::conv_silu(const Tensor& u, const Tensor& weight, const Tensor& pool, const Batch& batch,
                       const Tensor& out) {
  cpu::conv_silu(pool_, scratch_, u, weight, pool, batch, out);
}

void OpsCpu::delta_rule(const Tensor& qkv, const Tensor& a, const Tensor& b, const Tensor& a_log, const Tensor& dt_bias,
                        const DeltaShape& shape, const Tensor& pool, const Batch& batch, const Tensor& out) {
  cpu::delta_rule(pool_, scratch_, qkv, a, b, a_log, dt_bias, shape, pool, batch, out);
}

void OpsCpu::silu_mul(const Tensor& gate, const Tensor& up, const ActRows& out) {
  cpu::silu_mul(pool_, scratch_, gate, up, out.values);
}

void OpsCpu::moe_route(const Tensor& logits, const Tensor& ids, const Tensor& weights) {
  cpu::moe_route(pool_, scratch_, logits, ids, weights);
}

void OpsCpu::moe(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
                 const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) {
  cpu::moe(pool_, gemm_, moe_, x.values, ids, weights, experts, shared, shared_logit, partials);
}

void OpsCpu::moe_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                             const SharedRows& shared) {
  cpu::moe_expert_rows(pool_, gemm_, moe_, x.values, ids, experts, rows);
  if (shared.weights) cpu::moe_shared_rows(pool_, gemm_, moe_, shared);
}

void OpsCpu::moe_combine(const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
                         const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) {
  cpu::moe_combine(pool_, gemm_, moe_, rows, index, weights, x, shared, shared_logit, partials);
}

void OpsCpu::gather_rows(const Tensor& x, const Tensor& index, const Tensor& out) {
  cpu::gather_rows(pool_, x, index, out);
}

void OpsCpu::convert(const Tensor& x, const Tensor& out) { cpu::convert(pool_, x, out); }

void OpsCpu::concat_columns(const Tensor& a, const Tensor& b, const Tensor& out) {
  cpu::concat_columns(pool_, a, b, out);
}

void OpsCpu::sample_ahead(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                          std::span<const int32_t> slots, const Tensor& last_tokens, const Tensor& drawn) {
  std::vector<SampleResult> results(rows.size());
  sample(logits, vocab_tokens, rows, results);
  for (size_t i = 0; i < rows.size(); ++i) {
    drawn.as<int32_t>()[i] = results[i].token;
    last_tokens.as<int32_t>()[slots[i]] = std::max(results[i].token, 0);
  }
}

void OpsCpu::feed(const Tensor& ids, const Tensor& last_tokens) {
  for (int64_t t = 0; t < ids.dim(0); ++t) {
    int32_t& id = ids.as<int32_t>()[t];
    if (id < 0) id = last_tokens.as<int32_t>()[-1 - id];
  }
}

void OpsCpu::sample(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                    std::span<SampleResult> results) {
  cpu::sample(pool_, scratch_, logits, vocab_tokens, rows, results);
}

void OpsCpu::logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                      std::span<SampleResult> results) {
  cpu::logprobs(pool_, scratch_, logits, targets, top, results);
}

namespace {
int cores_allowed() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}
}  // namespace

}  // namespace cpu

Result<std::unique_ptr<Ops>> make_cpu_ops(const CpuOpsOptions& options) {
  HYLAS_ASSIGN(cpu::Isa isa, cpu::choose_isa(options.isa));
  if (options.threads < 0) return error(ErrorCode::kInvalid, "{} threads: give 0 (all cores) or more", options.threads);
  int threads = options.threads > 0 ? options.threads : std::max(1, cpu::cores_allowed());
  return std::unique_ptr<Ops>(std::make_unique<cpu::OpsCpu>(threads, isa));
}

}  // namespace hylas
