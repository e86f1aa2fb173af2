#pragma once
// Ops: the one interface between the model and a device. Implementations: ops/cpu (the readable truth), ops/cuda.
//
// Contract of every call:
//  - Activations ("act") are f32 or bf16, one choice per rank; every sum is accumulated in f32.
//  - The result of a row (token, head, sequence) depends on that row's inputs only: not on other rows, their number,
//    the number of threads, or where a chunk was cut at a multiple of 64 positions. So batch mates change nothing.
//    (The GPU's bf16 products keep this among calls of up to 64, up to 511 and more rows: cuda/gemm_large.h.)
//  - Row-parallel products are kept as `slices` partial sums over fixed quarters of the input dimension, so that any
//    tensor-parallel size adds the same numbers in the same order (docs: six ideas, "order is fixed").
//  - A row with state_write == -1 is padding: its outputs are unspecified and it writes no page and no state.
//  - Rows that products read (ActRows, act_rows.h) are made in the form that these ask for (row_form); a Tensor where
//  one
//    is taken is values alone. `out` of a norm, of silu_mul and of gated_rms_norm may be its first input; no other
//    output overlaps an input.
//  - One thread calls (the rank's); implementations may use more inside. Nothing is allocated per call.
// Formulas: model.md section 3.
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "ops/act_rows.h"
#include "ops/batch.h"
#include "ops/sampling.h"
#include "ops/weight.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

namespace hylas {

// Rotary embedding on the first `rotary_dim` dimensions of a head (rotate-half), interleaved mRoPE sections.
struct RopeConfig {
  int32_t rotary_dim = 64;
  float theta = 1e7f;
  int32_t sections[3] = {11, 11, 10};  // T, H, W; only read when positions have three rows
};

struct PeerPartials;  // tensor/cuda/peers.h
struct RowLayer;      // ops/row_layer.h
struct RowBehind;

// Shapes of a Gated DeltaNet layer on this rank.
struct DeltaShape {
  int32_t key_heads;
  int32_t value_heads;  // a multiple of key_heads; value head h reads key head h / (value_heads / key_heads)
  int32_t key_dim;
  int32_t value_dim;
  int32_t channels() const { return 2 * key_heads * key_dim + value_heads * value_dim; }  // q | k | v
};

// What a Gated DeltaNet layer has between its projections. conv [channels, 4], a_log, dt_bias [value_heads],
// norm [value_dim], f32|bf16 each.
struct DeltaWeights {
  Tensor conv;
  Tensor a_log;
  Tensor dt_bias;
  Tensor norm;
  float eps = 0;
};

// Whose partial sums are added.
enum class SumOver { kRank, kRanks };

// What stands behind a product's partial sums: hidden += their sum, out = the norm of that; without `weight` no norm.
struct NormBehind {
  Tensor hidden;  // [T, H] act
  Tensor weight;  // [H]
  float eps = 0;
  ActRows out;
};

// Its projections of a token's row.
struct DeltaInputs {
  LinearWeight qkv;   // [channels, H]: rows q | k | v
  LinearWeight z;     // [value_heads * value_dim, H]
  LinearWeight a, b;  // [value_heads, H]
};

// What it computes on the way.
struct DeltaRows {
  Tensor u;     // [T, channels] act: q | k | v before the convolution
  Tensor z;     // [T, value_heads, value_dim] act: the output gate
  Tensor a;     // [T, value_heads] f32: decay
  Tensor b;     // [T, value_heads] f32: beta
  Tensor c;     // [T, channels] act: after the convolution, unless the device keeps it to itself
  ActRows out;  // [T, value_heads * value_dim]
};

// Quarters of the input dimension of a row-parallel product; the one place that fixes the order of its sum.
constexpr int kSlicesTotal = 4;
// Begin of slice `index` (0..slices) over `size` inputs in whole `unit`s: floor(index * units / slices) units. A rank
// of a tensor-parallel group of 2 or 4 holds 4 / tp slices, and its bounds are the single rank's.
constexpr int64_t slice_begin(int64_t size, int64_t unit, int index, int slices = kSlicesTotal) {
  int64_t units = (size + unit - 1) / unit;
  int64_t begin = index * units / slices * unit;
  return begin < size ? begin : size;
}

// The shared expert's down products over tokens of their own: rows[s][t] = slice s of that over x[t], not scaled.
struct SharedRows {
  const SharedExpertWeights* weights = nullptr;
  ActRows x;    // [T, H] act; T may be 0
  Tensor rows;  // [slices, T, H] f32
};

// What Ops::moe_expert_rows reads best, values or e4m3, and what it makes of that without a rounding: f32 or bf16.
struct ExpertRowForms {
  RowForm read = RowForm::kValues;
  DType made = DType::kF32;
  // Room that they need where moe_sorted_expert_rows leaves them as they lie; no more bytes than rows by choice in f32
  // would take. 0: they have to be laid by choice.
  int64_t sorted_rows = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;
  virtual Device& device() = 0;
  // Partial sums that the experts' products are kept as over a whole tensor-parallel group: kSlicesTotal, unless the
  // device gives up that every group size adds the same numbers in the same order.
  virtual int32_t expert_slices_total() const { return kSlicesTotal; }
  // The same of linear_partial's products.
  virtual int32_t linear_slices_total() const { return kSlicesTotal; }

  // In which form a product of `weight`, or moe() with `choices` experts a token, reads so many rows. Whoever makes the
  // rows asks all that read them.
  virtual RowForm row_form(const LinearWeight& weight, DType act, int64_t rows) const {
    static_cast<void>(weight), static_cast<void>(act), static_cast<void>(rows);
    return RowForm::kValues;
  }
  virtual RowForm row_form(const ExpertWeights& experts, int64_t choices, DType act, int64_t rows) const {
    static_cast<void>(experts), static_cast<void>(choices), static_cast<void>(act), static_cast<void>(rows);
    return RowForm::kValues;
  }
  // The form that linear_silu_mul can make of what `down` reads.
  virtual RowForm silu_mul_form(const LinearWeight& down, DType act, int64_t rows) const {
    return row_form(down, act, rows);
  }
  // The type of linear_partial's sums, where they are one slice; over ranks another than f32 only if it holds the
  // product as f32 would.
  virtual DType partial_type(const LinearWeight& weight, DType act, int64_t rows, SumOver over) const {
    static_cast<void>(weight), static_cast<void>(act), static_cast<void>(rows), static_cast<void>(over);
    return DType::kF32;
  }

  // Calls `body`, which makes the same calls of operators on the same tensors at every call with this key, and nothing
  // else. A GPU records it at the first one and replays the record at the others, without calling `body`.
  virtual void replay(uint64_t key, const std::function<void()>& body) { static_cast<void>(key), body(); }

  // out[t] = table[ids[t] - vocab_begin]; zero where the table, rows [vocab_begin, vocab_begin + V) of the vocabulary,
  // has no such row: then the sum over the ranks of a vocabulary-parallel table is exact.
  //                                                     ids [T] i32, table [V, H] f32|bf16, out [T, H] f32|bf16
  virtual void embed(const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out) = 0;

  // out = x * rsqrt(mean(x^2) + eps) * (1 + w).                      x [T, H] act, w [H] f32|bf16, out [T, H] act
  virtual void rms_norm(const Tensor& x, const Tensor& weight, float eps, const ActRows& out) = 0;

  // residual += tree(partials), in place, then out = rms_norm(residual); `out` may be null (end of a stage).
  // tree: ((p0 + p1) + (p2 + p3)) in f32.       partials [S, T, H] f32 (or of partial_type), residual [T, H] act
  virtual void add_rms_norm(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
                            const ActRows& out) = 0;

  // The same over the partial sums of a group of ranks, whose tree goes on over their slices in rank order; every rank
  // of the group calls it. Where Comm::show_partials gives some.
  virtual void add_rms_norm_over(const PeerPartials& partials, const Tensor& residual, const Tensor& weight, float eps,
                                 const ActRows& out) = 0;

  // out = w * (x * rsqrt(mean(x^2) + eps)) * silu(z) over the last dimension (plain w).
  //                                                                  x, z, out [T, heads, D] act, w [D] f32|bf16
  virtual void gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, float eps,
                              const ActRows& out) = 0;

  // outs[i] = x weights[i]^T, several matrices over one input.       x [T, K] act, outs[i] [T, N_i] act or f32
  virtual void linear(const ActRows& x, std::span<const LinearWeight> weights, std::span<const Tensor> outs) = 0;

  // Partial sums of x W^T: partials[s] is the sum over slice s of this rank's slices. `slices` = 4 / tp.
  // Slice bounds: slice_begin over the rank's K with unit 128 for FP8 weights and 8 otherwise, `slices` of them.
  //                                               x [T, K] act, partials [slices, T, N] f32 (or of partial_type)
  virtual void linear_partial(const ActRows& x, const LinearWeight& weight, const Tensor& partials) = 0;

  // cos | sin of every token's angles.                               positions [P, T] i32, table [T, rotary_dim] f32
  virtual void rope_table(const Tensor& positions, const RopeConfig& rope, const Tensor& table) = 0;

  // q = rope(norm1p(query half of qg)), k = rope(norm1p(k)); k and v go to their pages.
  // qg [T, heads, 2 * D] act (per head: D query, then D gate), k, v [T, kv_heads, D] act, q_norm, k_norm [D],
  // q_out [T, heads, D] act.
  virtual void qk_norm_rope_kv_write(const Tensor& qg, const Tensor& k, const Tensor& v, const Tensor& q_norm,
                                     const Tensor& k_norm, float eps, const Tensor& rope_table, const Batch& batch,
                                     const KvPool& kv, const Tensor& q_out) = 0;

  // Causal softmax(q k^T scale) v over the pages of each row, then * sigmoid(gate half of qg). Scores are taken over
  // blocks of 64 positions at absolute multiples of 64, in ascending order.   q [T, heads, D], out [T, heads, D] act
  virtual void attention(const Tensor& q, const Tensor& qg, const Batch& batch, const KvPool& kv, float scale,
                         const ActRows& out) = 0;

  // c = silu(causal depthwise conv of width 4 over u); the last 3 inputs of each row go to its conv state.
  // u [T, channels] act, weight [channels, 4] f32|bf16, pool [slots, channels, 3] act (oldest first), out like u
  virtual void conv_silu(const Tensor& u, const Tensor& weight, const Tensor& pool, const Batch& batch,
                         const Tensor& out) = 0;

  // Gated delta rule, l2-normalised q and k, gates from a and b; decode rows recurrent, prefill rows in tiles of 64 at
  // absolute multiples of 64; a 16-bit state is rounded there, at a row's end and at decode steps. qkv [T, channels]
  // act (conv output), a, b [T, value_heads] f32|act, a_log, dt_bias [value_heads] f32|bf16, pool [slots, value_heads,
  // key_dim, value_dim] f32|f16|bf16, out [T, value_heads, value_dim] act.
  virtual void delta_rule(const Tensor& qkv, const Tensor& a, const Tensor& b, const Tensor& a_log,
                          const Tensor& dt_bias, const DeltaShape& shape, const Tensor& pool, const Batch& batch,
                          const Tensor& out) = 0;

  // out = gated_rms_norm(delta_rule(c), z), c = conv_silu(u): by default these three, one after the other; a device may
  // do them at once and leave `c` as it was. Shapes as there: u, c [T, channels], z, out [T, value_heads, value_dim]
  // act, a, b [T, value_heads] f32|act.
  virtual void delta_mixer(const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& b,
                           const DeltaWeights& weights, const DeltaShape& shape, const Tensor& conv_pool,
                           const Tensor& delta_pool, const Batch& batch, const Tensor& c, const ActRows& out);

  // A whole Gated DeltaNet layer: u, z, a, b = x times the inputs as linear() makes them, out = delta_mixer() of these,
  // partials = linear_partial(out, last), and where `behind` is given add_rms_norm() of these, whose rows may lie where
  // those of x do: by default one after the other; a device may run some of it beside other.
  //                                                               x [T, K] act, partials [slices, T, N] as there
  virtual void delta_layer(const ActRows& x, const DeltaInputs& inputs, const DeltaWeights& weights,
                           const DeltaShape& shape, const Tensor& conv_pool, const Tensor& delta_pool,
                           const Batch& batch, const DeltaRows& rows, const LinearWeight& last, const Tensor& partials,
                           const NormBehind* behind);

  // out = silu(gate) * up.                                           [T, I] act each
  virtual void silu_mul(const Tensor& gate, const Tensor& up, const ActRows& out) = 0;

  // out = silu(x gate^T) * (x up^T), the products rounded to act before; `scratch` and out's values may be written.
  //                                                                  x [T, K] act, out, scratch [T, N] act
  virtual void linear_silu_mul(const ActRows& x, const LinearWeight& gate, const LinearWeight& up, const ActRows& out,
                               const Tensor& scratch) {
    const LinearWeight weights[] = {gate, up};
    const Tensor outs[] = {out.values, scratch};
    linear(x, weights, outs);
    silu_mul(out.values, scratch, out);
  }

  // Softmax over all experts in f32, the k largest (lowest id on ties), renormalised to sum 1, in descending order.
  // logits [T, E] f32, ids [T, k] i32, weights [T, k] f32
  virtual void moe_route(const Tensor& logits, const Tensor& ids, const Tensor& weights) = 0;

  // Routed experts plus the shared one. partials[s][t] = sum over k in top-k order of weights[t][k] * (expert down
  // product over slice s), then + sigmoid(shared_logit[t]) * (shared down product over slice s). Experts that this rank
  // does not hold add nothing. `shared` may be null.
  // x [T, H] act, ids [T, k] i32, weights [T, k] f32, shared_logit [T, 1] f32, partials [slices, T, H] f32
  virtual void moe(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
                   const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) = 0;

  // moe(), then add_rms_norm() of its sums: by default these two, one after the other; a device may do without the
  // sums.
  virtual void moe_add_rms_norm(const ActRows& x, const Tensor& ids, const Tensor& weights,
                                const ExpertWeights& experts, const SharedExpertWeights* shared,
                                const Tensor& shared_logit, const Tensor& partials, const Tensor& residual,
                                const Tensor& norm, float eps, const ActRows& out) {
    moe(x, ids, weights, experts, shared, shared_logit, partials);
    add_rms_norm(partials, residual, norm, eps, out);
  }

  // moe() in two halves, for expert parallelism: bit for bit the same, wherever and in whatever order the rows were
  // computed.
  // Shapes alone decide: all ranks of a group find the same.
  virtual ExpertRowForms expert_row_forms(const Tensor& x, const Tensor& ids, const ExpertWeights& experts,
                                          int32_t slices) {
    static_cast<void>(x), static_cast<void>(ids), static_cast<void>(experts), static_cast<void>(slices);
    return {};
  }
  // First: down products of single experts. rows[s][t * k + j] = slice s of expert ids[t][j]'s product over x[t],
  // unweighted; left as it is where this rank does not hold that expert. May have no tokens. Beside them the shared
  // expert's, if `shared` has weights. Rows of x whose experts are all elsewhere do not matter. Values are fine in
  // any case, e4m3 alone where expert_row_forms names it.
  // x [T, H] act, ids [T, k] i32 (the model's), rows [slices, T * k, H] f32 or as expert_row_forms has them
  virtual void moe_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                               const SharedRows& shared) = 0;
  // The same where the forms have sorted_rows, without a copy: row index[t][j] is that of choice j of token t; -1: its
  // expert is elsewhere.           rows [1, sorted_rows, H] as the forms have them, index [T, k] i32
  virtual void moe_sorted_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
                                      const Tensor& rows, const Tensor& index, const SharedRows& shared) {
    static_cast<void>(x), static_cast<void>(ids), static_cast<void>(experts), static_cast<void>(shared);
    HYLAS_CHECK(false, "{} sorted rows of experts, {} indices", rows.dim(1), index.dim(0));
  }
  // Then: partials[s][t] = sum over k in top-k order of weights[t][k] * rows[s][index[t][k]], then the shared expert as
  // in moe(). `shared` may be null; no tokens are fine.
  // rows [slices, P, H] f32, index [T, k] i32, weights [T, k] f32, x [T, H] act, shared_logit [T, 1] f32,
  // partials [slices, T, H] f32
  virtual void moe_combine(const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
                           const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) = 0;

  // The most layers that row_layers() takes at once, whatever they are; 0: this backend has no such launch.
  virtual size_t row_layers_max() const { return 0; }
  // How many of these layers, from the first on, row_layers() takes at once for this batch; the first may be one
  // without a mixer, the others are not. 0: none, as for every batch but one of a single decode row.
  virtual size_t row_layers_taken(std::span<const RowLayer> layers, const Tensor& hidden, const Batch& batch) {
    static_cast<void>(layers), static_cast<void>(hidden), static_cast<void>(batch);
    return 0;
  }
  // Those layers, bit for bit as the operators above do them one after the other. mixed [1, columns of the first one's
  // `out`] act: the result of its mixer, if it has none here. hidden [1, H] act: the residual, in place.
  virtual void row_layers(std::span<const RowLayer> layers, const Tensor& mixed, const Tensor& hidden,
                          const RowBehind& behind, float eps, const Batch& batch) {
    static_cast<void>(layers), static_cast<void>(mixed), static_cast<void>(hidden), static_cast<void>(behind);
    static_cast<void>(eps), static_cast<void>(batch);
    HYLAS_CHECK(false, "layers that were not taken");
  }
  // Whether they may end with products by these (RowBehind).
  virtual bool row_products_taken(std::span<const LinearWeight> weights) {
    static_cast<void>(weights);
    return false;
  }

  // out[i] = x[index[i]].                                            x [T, H], index [R] i32, out [R, H]
  virtual void gather_rows(const Tensor& x, const Tensor& index, const Tensor& out) = 0;

  // out = x in out's element type.                                   x, out [T, H] f32|bf16
  virtual void convert(const Tensor& x, const Tensor& out) = 0;

  // out = [a | b] along the columns (MTP's input).                   a [T, A], b [T, B], out [T, A + B] act
  virtual void concat_columns(const Tensor& a, const Tensor& b, const Tensor& out) = 0;

  // One token per row; rows are independent. Ids >= vocab_tokens never come.   logits [R, V] f32
  virtual void sample(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                      std::span<SampleResult> results) = 0;

  // sample() of rows without top_logprobs that does not wait for the device: what row i gets goes to drawn[i] (-1: no
  // token may come) and to last_tokens[slots[i]] (then 0), the input of the sequence's next step (feed()).
  // logits [R, V] f32, last_tokens [slots] i32, drawn [R] i32
  virtual void sample_ahead(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                            std::span<const int32_t> slots, const Tensor& last_tokens, const Tensor& drawn) = 0;
  // ids[t] = last_tokens[-1 - ids[t]] where it is negative, in place.         ids [T] i32, last_tokens [slots] i32
  virtual void feed(const Tensor& ids, const Tensor& last_tokens) = 0;

  // Log-probability of `targets[i]` under logits[i], and the `top` best.       logits [R, V] f32
  virtual void logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                        std::span<SampleResult> results) = 0;
};

struct CpuOpsOptions {
  int threads = 0;  // 0: one per core of this process's affinity mask
  // "auto" takes the widest the processor has; "avx2", "avx512", "scalar" force one (kUnsupported if it is not there).
  const char* isa = "auto";
};
// CPU backend; owns its worker threads.
Result<std::unique_ptr<Ops>> make_cpu_ops(const CpuOpsOptions& options);

}  // namespace hylas
