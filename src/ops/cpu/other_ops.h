#pragma once
// The CPU operators other than matrix products, as free functions: OpsCpu forwards each virtual of ops.h here. Shapes,
// formulas and the contract stand beside the virtuals; `pool` has as many threads as `scratch` was made for.
#include <span>

#include "ops/cpu/scratch.h"
#include "ops/cpu/thread_pool.h"
#include "ops/ops.h"

namespace hylas::cpu {

// embed.cc
void embed(ThreadPool& pool, const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out);
void gather_rows(ThreadPool& pool, const Tensor& x, const Tensor& index, const Tensor& out);
void convert(ThreadPool& pool, const Tensor& x, const Tensor& out);
void concat_columns(ThreadPool& pool, const Tensor& a, const Tensor& b, const Tensor& out);

// norm.cc
void rms_norm(ThreadPool& pool, Scratch& scratch, const Tensor& x, const Tensor& weight, float eps, const Tensor& out);
void add_rms_norm(ThreadPool& pool, Scratch& scratch, const Tensor& partials, const Tensor& residual,
                  const Tensor& weight, float eps, const Tensor& out);
void gated_rms_norm(ThreadPool& pool, Scratch& scratch, const Tensor& x, const Tensor& z, const Tensor& weight,
                    float eps, const Tensor& out);

// rope.cc, kv_write.cc, attention.cc
void rope_table(ThreadPool& pool, const Tensor& positions, const RopeConfig& rope, const Tensor& table);
void qk_norm_rope_kv_write(ThreadPool& pool, Scratch& scratch, const Tensor& qg, const Tensor& k, const Tensor& v,
                           const Tensor& q_norm, const Tensor& k_norm, float eps, const Tensor& rope_table,
                           const Batch& batch, const KvPool& kv, const Tensor& q_out);
void attention(ThreadPool& pool, Scratch& scratch, const Tensor& q, const Tensor& qg, const Batch& batch,
               const KvPool& kv, float scale, const Tensor& out);

// conv.cc, delta_rule.cc
void conv_silu(ThreadPool& pool, Scratch& scratch, const Tensor& u, const Tensor& weight, const Tensor& state_pool,
               const Batch& batch, const Tensor& out);
void delta_rule(ThreadPool& pool, Scratch& scratch, const Tensor& qkv, const Tensor& a, const Tensor& b,
                const Tensor& a_log, const Tensor& dt_bias, const DeltaShape& shape, const Tensor& state_pool,
                const Batch& batch, const Tensor& out);

// elementwise.cc
void silu_mul(ThreadPool& pool, Scratch& scratch, const Tensor& gate, const Tensor& up, const Tensor& out);

// route.cc
void moe_route(ThreadPool& pool, Scratch& scratch, const Tensor& logits, const Tensor& ids, const Tensor& weights);

// sampling.cc
void sample(ThreadPool& pool, Scratch& scratch, const Tensor& logits, int32_t vocab_tokens,
            std::span<const SampleRow> rows, std::span<SampleResult> results);
void logprobs(ThreadPool& pool, Scratch& scratch, const Tensor& logits, std::span<const int32_t> targets, int32_t top,
              std::span<SampleResult> results);

}  // namespace hylas::cpu
