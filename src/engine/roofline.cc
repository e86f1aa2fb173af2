#include "engine/roofline.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "comm/sum_sizes.h"
#include "engine/roofline_load.h"
#include "model/sharding.h"

namespace hylas {
namespace {

constexpr double kBf16Bytes = 2, kF32Bytes = 4;
constexpr double kDeltaTile = 64;
constexpr double kFusedSiluRows = 128;  // of a dense feed-forward, up to which gate, up and silu are one kernel

}  // namespace

Roofline::Roofline(const ModelConfig& model, const GpuKind& gpu, const ParallelSizes& sizes,
                   std::vector<int32_t> stage_begins, const KernelCosts& costs, int64_t kv_bytes, int64_t state_bytes)
    : model_(model),
      times_(gpu, costs),
      sizes_(sizes),
      stage_begins_(std::move(stage_begins)),
      kv_bytes_(static_cast<double>(kv_bytes)),
      state_bytes_(static_cast<double>(state_bytes)),
      hidden_(model.hidden_size),
      in_bytes_(model.quantised ? 1 : kBf16Bytes) {}

Roofline::Load Roofline::load_of_rows(std::span<const PlanRow> rows) const {
  std::vector<Load> groups(sizes_.dp);
  double all = 0;
  for (const PlanRow& row : rows) {
    Load& group = groups.at(row.group);
    const double length = row.length, prefix = row.begin;
    group.tokens += length;
    group.sequences += 1;
    group.logits += row.sample ? 1 : 0;
    all += length;
    if (row.kind == RowKind::kDecode) {
      group.decode_rows += 1;
      group.decode_keys += prefix + 1;
      continue;
    }
    group.pairs += length * (prefix + length / 2);
    group.prefill_keys += prefix + length;
    const double tiles = times_.tiles(length, kDeltaTile);
    group.tiles += tiles;
    group.longest = std::max(group.longest, tiles);
  }
  Load most =
      *std::max_element(groups.begin(), groups.end(), [](const Load& a, const Load& b) { return a.tokens < b.tokens; });
  most.tokens_all = all;
  return most;
}

double Roofline::product_us(const ProductShape& shape) const {
  return model_.quantised ? times_.fp8_product_us(shape) : times_.bf16_product_us(shape);
}

void Roofline::add_linear_attention(const Load& load, StepTime& time) const {
  const double ranks = sizes_.attn_tp(), n = load.tokens;
  const double channels = static_cast<double>(model_.channels()) / ranks, heads = model_.linear_value_heads / ranks;
  const double values = heads * model_.linear_value_dim;
  time.gemm_us += product_us({n, channels + values, hidden_});
  time.gemm_us += times_.bf16_product_us({n, 2 * heads, hidden_});  // a and b
  time.gemm_us += product_us({n, hidden_, values});
  const double state = values * model_.linear_key_dim;  // elements, of a sequence
  const double rows = n * (kBf16Bytes * (channels + values) + in_bytes_ * values);
  if (load.prefill_tokens() == 0) {  // convolution, rule and gated norm in one
    time.mixer_us += times_.pieces_us(2 * load.decode_rows * state * state_bytes_ + rows);
    return;
  }
  if (load.decode_rows > 0) time.mixer_us += times_.pieces_us(2 * load.decode_rows * state * state_bytes_);
  time.mixer_us += times_.delta_rule_us(load.tiles, load.longest, heads);
  // Convolution, gates, states in f32 and back, norm of the output with its gate.
  time.glue_us += times_.pass_us(n * 2 * kBf16Bytes * channels) + times_.pass_us(n * 4 * kF32Bytes * heads);
  const double prefills = load.sequences - load.decode_rows;
  for (int i = 0; i < 2; ++i) time.glue_us += times_.pass_us(prefills * state * (kF32Bytes + state_bytes_));
  time.glue_us += times_.pass_us(n * values * (2 * kBf16Bytes + in_bytes_));
}

void Roofline::add_full_attention(const Load& load, StepTime& time) const {
  const double n = load.tokens, q = static_cast<double>(model_.heads) * model_.head_dim / sizes_.attn_tp();
  const double kv = static_cast<double>(kv_heads(model_, Shard{sizes_, {}}).count) * model_.head_dim;
  time.gemm_us += product_us({n, 2 * q + 2 * kv, hidden_});
  time.gemm_us += product_us({n, hidden_, q});
  // Norm and rotation of queries and keys, keys and values to their pages.
  time.glue_us += times_.pass_us(n * (2 * kBf16Bytes * (q + kv) + kv * (kBf16Bytes + 2 * kv_bytes_)));
  if (load.decode_rows > 0) {
    time.mixer_us += times_.pieces_us(2 * kv * kv_bytes_ * load.decode_keys);
    time.mixer_us += times_.pass_us(load.decode_rows * q * 2 * kBf16Bytes);  // what pieces of the context say, added
  }
  if (const double tokens = load.prefill_tokens(); tokens > 0) {
    time.glue_us += times_.pass_us(2 * kv * load.prefill_keys * (kv_bytes_ + kBf16Bytes));  // out of the pages
    time.mixer_us += times_.attention_us(load.pairs, q);
    if (model_.quantised) time.glue_us += times_.pass_us(tokens * q * (kBf16Bytes + 1));
  }
}

void Roofline::add_dense(const Load& load, StepTime& time) const {
  const double n = load.tokens_all, width = static_cast<double>(model_.intermediate_size) / sizes_.tp;
  add_gather(load, time);
  time.gemm_us += product_us({n, 2 * width, hidden_});
  time.gemm_us += product_us({n, hidden_, width});
  if (n > kFusedSiluRows) time.glue_us += times_.pass_us(n * width * (2 * kBf16Bytes + in_bytes_));
}

// Sum and residual read; residual written, and the normed row in both types that are read.
void Roofline::add_norm(double tokens, double sum_bytes, StepTime& time) const {
  const double quantised = model_.quantised ? 1 : 0;
  time.glue_us += times_.pass_us(tokens * hidden_ * (sum_bytes + 3 * kBf16Bytes + quantised));
}

// The last stage's: norm and head of the rows that sample, and their draws.
void Roofline::add_head(const Load& load, StepTime& time) const {
  if (load.logits == 0) return;
  const double rows = static_cast<double>(vocab_rows(model_, Shard{sizes_, {}}).count);
  time.glue_us += times_.pass_us(load.logits * hidden_ * 2 * kBf16Bytes);
  time.gemm_us += times_.bf16_product_us({load.logits, rows, hidden_});
  time.comm_us += times_.gather_us(load.logits * rows * sizes_.attn_tp() * kF32Bytes, sizes_.attn_tp());
  time.glue_us += times_.pieces_us(2 * load.logits * rows * sizes_.attn_tp() * kF32Bytes);
}

// The tokens of all dp groups, to ranks that share experts or a dense feed-forward.
void Roofline::add_gather(const Load& load, StepTime& time) const {
  time.comm_us += times_.gather_us(load.tokens_all * hidden_ * kBf16Bytes, sizes_.dp);
}

// A product's partial sums over `ranks`, and the norm behind them. Many are added where the residual is (step.h), those
// of FP8 products in bf16, and the norm reads what came of it.
void Roofline::add_sum_and_norm(double tokens, double partial_bytes, int32_t ranks, StepTime& time) const {
  if (ranks == 1) return add_norm(tokens, kBf16Bytes, time);
  if (!sums_go_onto(static_cast<int64_t>(tokens * hidden_), ranks)) {
    add_sum(tokens, ranks, time);
    return add_norm(tokens, kF32Bytes, time);
  }
  time.comm_us += times_.onto_us(tokens * hidden_ * partial_bytes, tokens * hidden_ * kBf16Bytes, ranks);
  add_norm(tokens, -kBf16Bytes, time);  // the residual stays as it is
}

// Partial sums travel in f32.
void Roofline::add_sum(double tokens, int32_t ranks, StepTime& time) const {
  time.comm_us += times_.sum_us(tokens * hidden_ * kF32Bytes, ranks);
}

StepTime Roofline::step(int32_t stage, std::span<const PlanRow> rows) const {
  StepTime time;
  if (rows.empty()) return time;
  const Load load = load_of_rows(rows);
  const double product = model_.quantised ? kBf16Bytes : kF32Bytes;  // a value of its sums
  for (int32_t layer = stage_begins_.at(stage); layer < stage_begins_.at(stage + 1); ++layer) {
    if (model_.layer_types[layer] == LayerKind::kFull) {
      add_full_attention(load, time);
    } else {
      add_linear_attention(load, time);
    }
    add_sum_and_norm(load.tokens, product, sizes_.attn_tp(), time);
    if (model_.experts > 0) {
      add_experts(load, time);
    } else {
      add_dense(load, time);
      if (sizes_.dp == 1) {
        add_sum_and_norm(load.tokens, product, sizes_.tp, time);
      } else {
        add_sum(load.tokens_all, sizes_.tp, time);
        add_norm(load.tokens, kF32Bytes, time);
      }
    }
  }
  if (stage + 2 == static_cast<int32_t>(stage_begins_.size())) add_head(load, time);
  return time;
}

double Roofline::hand_off_us(std::span<const PlanRow> rows) const {
  if (rows.empty()) return 0;
  return times_.send_us(load_of_rows(rows).tokens * hidden_ * kBf16Bytes);
}

}  // namespace hylas
