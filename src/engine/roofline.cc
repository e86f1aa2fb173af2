#include "engine/roofline.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <utility>

#include "model/sharding.h"

namespace hylas {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9;
constexpr int64_t kGigabyte = 1'000'000'000;
// NVLink's 450 GB/s in one direction, of which collectives get three quarters; the three kinds have the same links.
constexpr double kLinkBytes = 0.75 * 450 * kGiga;

constexpr std::array kGpus = {
    GpuKind{"H20", 260 * kTera, 135 * kTera, 110 * kTera, 3.4 * kTera, kLinkBytes, 96 * kGigabyte},
    GpuKind{"H100", 1200 * kTera, 800 * kTera, 600 * kTera, 3.0 * kTera, kLinkBytes, 80 * kGigabyte},
    GpuKind{"H200", 1200 * kTera, 800 * kTera, 600 * kTera, 4.3 * kTera, kLinkBytes, 141 * kGigabyte},
};

constexpr double kBf16Bytes = 2;
constexpr double kChunk = 64;  // of the delta rule

// Multiply-adds count twice. Products inside a chunk of 64 tokens, with the state, and the triangular inverse.
double delta_flops_per_head(double key_dim, double value_dim) {
  const double inside = 4 * 2 * kChunk * kChunk * key_dim, state = 3 * 2 * kChunk * key_dim * value_dim;
  return (inside + state + kChunk * kChunk * kChunk * 2 / 3) / kChunk;
}

}  // namespace

Result<GpuKind> find_gpu(const std::string& name) {
  std::string upper = name, known;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const GpuKind& gpu : kGpus) {
    if (upper == gpu.name) return gpu;
    known += known.empty() ? gpu.name : fmt::format(", {}", gpu.name);
  }
  return error(ErrorCode::kInvalid, "--gpu {}: must be one of {}", name, known);
}

// What a step brings to one rank.
struct Roofline::Load {
  double tokens = 0;      // of the dp group with most tokens
  double pairs = 0;       // its (token, earlier token) pairs
  double sequences = 0;   // its rows
  double kv_tokens = 0;   // tokens whose keys and values it reads from pages
  double tokens_all = 0;  // of all groups: what the experts see
  double logits = 0;      // rows that sample
};

Roofline::Roofline(const ModelConfig& model, const GpuKind& gpu, const ParallelSizes& sizes,
                   std::vector<int32_t> stage_begins, int64_t kv_bytes, int64_t state_bytes)
    : model_(model),
      gpu_(gpu),
      sizes_(sizes),
      stage_begins_(std::move(stage_begins)),
      kv_bytes_(static_cast<double>(kv_bytes)),
      state_bytes_(static_cast<double>(state_bytes)) {}

Roofline::Load Roofline::load_of_rows(std::span<const PlanRow> rows) const {
  std::vector<Load> groups(sizes_.dp);
  double all = 0;
  for (const PlanRow& row : rows) {
    Load& group = groups.at(row.group);
    const double length = row.length, prefix = row.begin;
    group.tokens += length;
    group.pairs += length * (prefix + length / 2);
    group.sequences += 1;
    group.kv_tokens += prefix + length;
    group.logits += row.sample ? 1 : 0;
    all += length;
  }
  Load most =
      *std::max_element(groups.begin(), groups.end(), [](const Load& a, const Load& b) { return a.tokens < b.tokens; });
  most.tokens_all = all;
  return most;
}

// A product of `tokens` rows with `weights` elements of this rank.
double Roofline::gemm_us(double tokens, double weights, bool is_fp8) const {
  const double flops = is_fp8 ? gpu_.fp8_flops : gpu_.bf16_flops, bytes = is_fp8 ? 1 : kBf16Bytes;
  return std::max(2 * tokens * weights / flops * 1e6, memory_us(weights * bytes));
}

void Roofline::add_linear_attention(const Load& load, StepTime& time) const {
  const double hidden = model_.hidden_size, ranks = sizes_.attn_tp(), in_bytes = model_.quantised ? 1 : kBf16Bytes;
  const double channels = static_cast<double>(model_.channels()) / ranks, heads = model_.linear_value_heads / ranks;
  const double values = heads * model_.linear_value_dim;
  time.gemm_us += gemm_us(load.tokens, hidden * (channels + values), model_.quantised);
  time.gemm_us += gemm_us(load.tokens, hidden * values, model_.quantised);
  time.mixer_us += gemm_us(load.tokens, 2 * hidden * heads, false);  // a and b
  const double flops = load.tokens * heads * delta_flops_per_head(model_.linear_key_dim, model_.linear_value_dim);
  const double io = load.tokens * (kBf16Bytes * (channels + values) + 2 * 4 * heads);
  const double state = 2 * load.sequences * values * model_.linear_key_dim * state_bytes_;
  time.mixer_us += std::max(flops / gpu_.bf16_flops * 1e6, memory_us(io + state));
  // Of a token: projections written; convolution in and out; norm of the output with its gate, in the type of the last
  // product's input, which reads it; the layer's input twice (projections, a and b), its output once.
  const double shard =
      kBf16Bytes * (channels + values) + 2 * kBf16Bytes * channels + 2 * kBf16Bytes * values + 2 * in_bytes * values;
  const double whole = hidden * (in_bytes + 2 * kBf16Bytes);
  time.glue_us += memory_us(load.tokens * (shard + whole));
  add_all_reduce(load.tokens, sizes_.attn_tp(), time);
}

void Roofline::add_full_attention(const Load& load, StepTime& time) const {
  const double hidden = model_.hidden_size, in_bytes = model_.quantised ? 1 : kBf16Bytes;
  const double q = static_cast<double>(model_.heads) * model_.head_dim / sizes_.attn_tp();
  const double kv = static_cast<double>(kv_heads(model_, Shard{sizes_, {}}).count) * model_.head_dim;
  time.gemm_us += gemm_us(load.tokens, hidden * (2 * q + 2 * kv), model_.quantised);
  time.gemm_us += gemm_us(load.tokens, hidden * q, model_.quantised);
  const double pages = 2 * kv * kv_bytes_ * load.kv_tokens;
  time.mixer_us += std::max(4 * q * load.pairs / gpu_.attention_flops * 1e6, memory_us(pages));
  // Projections written; norm and rope of q, k, v; queries read, outputs written, gated, read by the last product.
  const double shard = kBf16Bytes * (2 * q + 2 * kv) + kBf16Bytes * (2 * q + 2 * kv) + 2 * kv * kv_bytes_ +
                       2 * kBf16Bytes * q + 2 * kBf16Bytes * q + 2 * in_bytes * q;
  const double whole = hidden * (in_bytes + kBf16Bytes);
  time.glue_us += memory_us(load.tokens * (shard + whole));
  add_all_reduce(load.tokens, sizes_.attn_tp(), time);
}

void Roofline::add_experts(const Load& load, StepTime& time) const {
  const double hidden = model_.hidden_size, in_bytes = model_.quantised ? 1 : kBf16Bytes;
  const double per_token = model_.experts_per_token, experts = model_.experts, tp = sizes_.tp;
  const double width = model_.moe_intermediate_size, shared = model_.shared_intermediate_size / double(sizes_.moe_tp());
  // Tokens that a rank routes and that its shared expert sees: with expert ranks each is home to a share.
  const double home = sizes_.ep > 1 ? load.tokens_all / sizes_.ep : load.tokens_all;
  time.mixer_us += gemm_us(home, hidden * experts, false);
  time.gemm_us += gemm_us(home, 3 * hidden * shared, model_.quantised);
  // Experts that at least one token chose, if all are equally likely.
  const double touched = experts * (1 - std::pow(1 - per_token / experts, load.tokens_all));
  const double flops = model_.quantised ? gpu_.fp8_flops : gpu_.bf16_flops;
  const double work = 2 * load.tokens_all * per_token * 3 * hidden * width / tp / flops * 1e6;
  time.gemm_us += std::max(work, memory_us(touched * 3 * hidden * width * in_bytes / tp));
  // Rows of (token, expert) pairs on this rank, each with a part of the width.
  const double rows = load.tokens_all * per_token / sizes_.ep, part = width / sizes_.moe_tp();
  const double routed = rows * (hidden * (2 * in_bytes + 2 * kBf16Bytes) + part * (4 * kBf16Bytes + 2 * in_bytes));
  // Logits written and read, input read by router, permutation and shared expert; the shared output written and read,
  // the sum written.
  const double tokens = home * (8 * experts + hidden * (kBf16Bytes + 2 * in_bytes + 3 * kBf16Bytes) +
                                shared * (4 * kBf16Bytes + 2 * in_bytes));
  time.glue_us += memory_us(routed + tokens);
  if (sizes_.ep == 1) return add_all_reduce(load.tokens_all, sizes_.tp, time);
  const double others = (sizes_.ep - 1) * (1 - std::pow(1 - 1.0 / sizes_.ep, per_token));  // distinct ranks of a token
  time.comm_us += home * others * hidden * (in_bytes + kBf16Bytes) / gpu_.link_bytes * 1e6;
}

void Roofline::add_dense(const Load& load, StepTime& time) const {
  const double hidden = model_.hidden_size, in_bytes = model_.quantised ? 1 : kBf16Bytes;
  const double width = static_cast<double>(model_.intermediate_size) / sizes_.tp;
  time.gemm_us += gemm_us(load.tokens_all, 2 * hidden * width, model_.quantised);
  time.gemm_us += gemm_us(load.tokens_all, hidden * width, model_.quantised);
  time.glue_us +=
      memory_us(load.tokens_all * (hidden * (in_bytes + kBf16Bytes) + width * (4 * kBf16Bytes + 2 * in_bytes)));
  add_all_reduce(load.tokens_all, sizes_.tp, time);
}

// Two of a layer: sum and residual read, residual written, and the normed row in both types that are read.
void Roofline::add_norms(const Load& load, StepTime& time) const {
  const double in_bytes = model_.quantised ? 1 : 0;
  time.glue_us += memory_us(2 * load.tokens * model_.hidden_size * (4 * kBf16Bytes + in_bytes));
}

// The last stage's: norm and head of the rows that sample.
void Roofline::add_head(const Load& load, StepTime& time) const {
  if (load.logits == 0) return;
  const double rows = static_cast<double>(vocab_rows(model_, Shard{sizes_, {}}).count);
  time.gemm_us += gemm_us(load.logits, rows * model_.hidden_size, false);
}

// Reduce-scatter and all-gather: each rank sends (n - 1) / n of the rows twice.
void Roofline::add_all_reduce(double tokens, int32_t ranks, StepTime& time) const {
  const double bytes = 2.0 * (ranks - 1) / ranks * tokens * model_.hidden_size * kBf16Bytes;
  time.comm_us += bytes / gpu_.link_bytes * 1e6;
}

StepTime Roofline::step(int32_t stage, std::span<const PlanRow> rows) const {
  StepTime time;
  if (rows.empty()) return time;
  const Load load = load_of_rows(rows);
  for (int32_t layer = stage_begins_.at(stage); layer < stage_begins_.at(stage + 1); ++layer) {
    add_norms(load, time);
    if (model_.layer_types[layer] == LayerKind::kFull) {
      add_full_attention(load, time);
    } else {
      add_linear_attention(load, time);
    }
    if (model_.experts > 0) {
      add_experts(load, time);
    } else {
      add_dense(load, time);
    }
  }
  if (stage + 2 == static_cast<int32_t>(stage_begins_.size())) add_head(load, time);
  return time;
}

double Roofline::hand_off_us(std::span<const PlanRow> rows) const {
  if (rows.empty()) return 0;
  return load_of_rows(rows).tokens * model_.hidden_size * kBf16Bytes / gpu_.link_bytes * 1e6;
}

}  // namespace hylas
