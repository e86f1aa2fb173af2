// Roofline: the experts of a layer, as ops/cuda/moe_fp8.cc and model/expert_exchange.cc run them.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/configuration.h"
#include "engine/roofline.h"
#include "engine/roofline_load.h"
#include "ops/cuda_ops.h"
#include "ops/fp8_plan.h"

namespace hylas {
namespace {

constexpr double kBf16Bytes = 2, kF32Bytes = 4;
constexpr double kChosenPairs = 16;       // of all tokens, up to which experts have kernels of their own
constexpr double kScales = 1 + 1 / 32.0;  // an FP8 row and its scales

}  // namespace

// What goes to the experts at once.
struct Roofline::Block {
  double tokens = 0;  // of all ranks
  double home = 0;    // of this one
  double pairs = 0;   // (token, choice) that this rank's experts have, on average
  double held = 0, width = 0;
  bool with_shared = false;  // among the others: the kernels of few rows

  // Experts that at least one token chose, if all are equally likely.
  double touched(double per_token, double experts) const {
    return held * (1 - std::pow(1 - per_token / experts, tokens));
  }
};

void Roofline::add_experts(const Load& load, StepTime& time) const {
  const double k = model_.experts_per_token, ep = sizes_.ep;
  const double home = sizes_.ep > 1 ? load.tokens_all / ep : load.tokens_all;
  const bool alone = sizes_.tp == 1;  // then the sum of a token's experts and the norm behind are one kernel
  double sum_row_bytes = kF32Bytes;
  const double most = sizes_.ep > 1 ? kCudaDispatchTokens : home;
  if (sizes_.moe_tp() > 1) add_gather(load, time);
  for (int i = 0; i < std::ceil(home / most); ++i) {
    Block block;
    block.home = std::min(home - i * most, most);
    block.tokens = block.home * ep;
    block.pairs = block.tokens * k / ep;
    block.held = model_.experts / ep;
    block.width = model_.moe_intermediate_size / double(sizes_.moe_tp());
    const bool few = block.pairs < static_cast<double>(CudaFp8Options().expert_rows_min) * block.held;
    block.with_shared = few && sizes_.ep == 1 && model_.shared_intermediate_size == model_.moe_intermediate_size;
    // Logits, and the choice by them.
    time.gemm_us += times_.bf16_product_us({block.home, double(model_.experts) + 1, hidden_});
    time.glue_us += times_.pass_us(block.home * (kF32Bytes * model_.experts + 8 * k));
    if (few) {
      add_few_experts(block, time);
    } else {
      add_many_experts(block, time);
    }
    if (!block.with_shared) add_shared_expert(block.home, time);
    const double row_bytes = hidden_ * (few ? kF32Bytes : kBf16Bytes);
    sum_row_bytes = row_bytes;
    if (sizes_.ep > 1) {  // the sum of a token's rows goes with the way back
      const double there = (ep - 1) * (1 - std::pow(1 - 1 / ep, k)), back = k * (ep - 1) / ep;
      const double sent_bytes = hidden_ * (model_.quantised ? kScales : kBf16Bytes);
      time.comm_us += times_.exchange_us(block.home * (there * sent_bytes + back * row_bytes));
      add_sum(block.home, sizes_.moe_tp(), time);
    } else if (!alone) {
      time.glue_us += times_.pass_us(block.home * ((k + 1) * row_bytes + hidden_ * kF32Bytes));
    }
  }
  if (alone) return add_norm(load.tokens, (k + 1) * sum_row_bytes / hidden_, time);
  if (sizes_.ep == 1 && sizes_.dp == 1) return add_sum_and_norm(load.tokens, kF32Bytes, sizes_.tp, time);
  if (sizes_.ep == 1) add_sum(load.tokens_all, sizes_.tp, time);
  // Homes are shares of the group's tokens.
  if (sizes_.ep > 1) time.comm_us += times_.gather_us(load.tokens * hidden_ * kF32Bytes, sizes_.attn_tp());
  add_norm(load.tokens, kF32Bytes, time);
}

// One launch for gate, up and down; of few choices two.
void Roofline::add_few_experts(const Block& block, StepTime& time) const {
  const KernelCosts& costs = times_.costs();
  const double k = model_.experts_per_token, shared = block.with_shared ? 1 : 0;
  const double weights = 3 * hidden_ * block.width * in_bytes_;
  const double rows = block.pairs + shared * block.tokens;
  const double bytes = (block.touched(k, model_.experts) + shared) * weights +
                       rows * (hidden_ * in_bytes_ + 2 * kBf16Bytes * block.width + hidden_ * kF32Bytes);
  const bool chosen = block.tokens * k <= kChosenPairs;
  time.experts_us += times_.stream_us(bytes) + (chosen ? costs.launch_us : costs.few_experts_us);
}

// Tokens that fit the workspace at once (gpu_kernels.cc).
double Roofline::experts_at_once(const Block& block) const {
  const CudaOpsOptions most = {.workspace_bytes = kCudaFp8WorkspaceBytes, .workspace_wanted_bytes = SIZE_MAX};
  const size_t bytes = workspace_bytes_on(most, static_cast<size_t>(times_.gpu().capacity_bytes));
  Fp8Experts experts = {.choices = model_.experts_per_token,
                        .experts = static_cast<int64_t>(block.held),
                        .hidden = model_.hidden_size,
                        .width = static_cast<int64_t>(block.width),
                        .experts_total = model_.experts};
  if (sizes_.ep == 1) experts.shared_width = model_.shared_intermediate_size / sizes_.moe_tp();
  return std::max<double>(1, fp8_experts_tokens(static_cast<int64_t>(block.tokens), experts, bytes));
}

// Pairs sorted by expert, rows of x laid in that order, two grouped products, silu between them.
void Roofline::add_many_experts(const Block& block, StepTime& time) const {
  const double k = model_.experts_per_token;
  const bool whole = times_.costs().real && model_.quantised;
  const double at_once = whole ? experts_at_once(block) : block.tokens;
  for (double from = 0; from < block.tokens; from += at_once) {
    const double tokens = std::min(at_once, block.tokens - from), pairs = block.pairs * tokens / block.tokens;
    const auto held = static_cast<int64_t>(block.held);
    ExpertRows rows;
    rows.touched = block.touched(k, model_.experts);
    rows.tile_rows = whole ? fp8_grouped_tile(static_cast<int64_t>(pairs), held).rows : 128;
    rows.used = times_.expert_tiles(pairs, block.held, rows.tile_rows);
    if (model_.quantised) {
      time.experts_us += times_.expert_product_us(rows, 2 * block.width, hidden_);
      time.experts_us += times_.expert_product_us(rows, hidden_, block.width);
    } else {
      time.experts_us += times_.bf16_product_us({pairs / block.held, block.held * 3 * hidden_, block.width});
    }
    time.glue_us += 3 * times_.pass_us(0) + times_.pass_us((tokens + pairs) * hidden_ * in_bytes_);
    time.glue_us += times_.pass_us(pairs * block.width * (2 * kBf16Bytes + in_bytes_));
  }
}

void Roofline::add_shared_expert(double tokens, StepTime& time) const {
  const double width = model_.shared_intermediate_size / double(sizes_.moe_tp());
  time.gemm_us += product_us({tokens, 2 * width, hidden_});
  time.glue_us += times_.pass_us(tokens * width * (2 * kBf16Bytes + in_bytes_));
  time.gemm_us += product_us({tokens, hidden_, width});
}

}  // namespace hylas
