#include "model/sharding.h"

namespace hylas {
namespace {

constexpr int64_t kFloatUnit = 8;  // of the slices of bf16 and f32 products (ops.h)

// `what` is split over `ranks` in whole `unit`s.
Status check_split(const char* what, int64_t size, const char* over, int32_t ranks, int64_t unit = 1) {
  if (size % ranks != 0) {
    return error(ErrorCode::kUnsupported, "{} {} cannot be split over {} ranks ({})", what, size, ranks, over);
  }
  if (ranks > 1 && size / ranks % unit != 0) {
    return error(ErrorCode::kUnsupported, "{} {} over {} ranks ({}) gives {}, which is no multiple of {}{}", what, size,
                 ranks, over, size / ranks, unit, unit == kFp8Block ? ": FP8 blocks stay whole" : "");
  }
  return {};
}

}  // namespace

Status check_shapes(const ModelConfig& config, const ParallelSizes& sizes) {
  if (sizes.tp == 1) return {};
  const int32_t attn = sizes.attn_tp(), tp = sizes.tp, moe_tp = sizes.moe_tp();
  const char* const attn_flags = sizes.dp > 1 ? "--tp-size / --dp-size" : "--tp-size";
  const char* const moe_flags = sizes.ep > 1 ? "--tp-size / --ep-size" : "--tp-size";
  const int64_t unit = config.quantised ? kFp8Block : kFloatUnit;  // of columns
  const int64_t rows = config.quantised ? kFp8Block : 1;

  HYLAS_TRY(check_split("vocab_size", config.vocab_size, attn_flags, attn));
  HYLAS_TRY(check_split("num_attention_heads", config.heads, attn_flags, attn));
  HYLAS_TRY(check_split("attention columns", int64_t{config.heads} * config.head_dim, attn_flags, attn, unit));
  if (config.kv_heads < attn && attn % config.kv_heads != 0) {
    return error(ErrorCode::kUnsupported, "num_key_value_heads {} cannot be replicated over {} ranks ({})",
                 config.kv_heads, attn, attn_flags);
  }
  if (config.kv_heads >= attn) {
    HYLAS_TRY(check_split("num_key_value_heads", config.kv_heads, attn_flags, attn));
  }
  if (attn > 1 && config.head_dim % rows != 0 && kv_heads(config, Shard{sizes, {}}).count < config.kv_heads) {
    return error(ErrorCode::kUnsupported, "head_dim {}: one KV head is no multiple of {}: FP8 blocks stay whole",
                 config.head_dim, rows);
  }
  HYLAS_TRY(check_split("linear_num_key_heads", config.linear_key_heads, attn_flags, attn));
  HYLAS_TRY(check_split("linear key columns", int64_t{config.linear_key_heads} * config.linear_key_dim, attn_flags,
                        attn, rows));
  HYLAS_TRY(check_split("linear value columns", int64_t{config.linear_value_heads} * config.linear_value_dim,
                        attn_flags, attn, unit));
  if (config.experts == 0) {
    if (sizes.ep > 1) {
      return error(ErrorCode::kUnsupported, "--ep-size {}: a dense model has no experts to spread", sizes.ep);
    }
    return check_split("intermediate_size", config.intermediate_size, "--tp-size", tp, unit);
  }
  HYLAS_TRY(check_split("num_experts", config.experts, "--ep-size", sizes.ep));
  HYLAS_TRY(check_split("moe_intermediate_size", config.moe_intermediate_size, moe_flags, moe_tp, unit));
  return check_split("shared_expert_intermediate_size", config.shared_intermediate_size, moe_flags, moe_tp, unit);
}

Range query_heads(const ModelConfig& config, const Shard& shard) {
  return split(config.heads, shard.sizes.attn_tp(), shard.place.attn_rank);
}

Range kv_heads(const ModelConfig& config, const Shard& shard) {
  const int32_t ranks = shard.sizes.attn_tp();
  if (config.kv_heads >= ranks) return split(config.kv_heads, ranks, shard.place.attn_rank);
  return {shard.place.attn_rank / (ranks / config.kv_heads), 1};
}

Range linear_key_heads(const ModelConfig& config, const Shard& shard) {
  return split(config.linear_key_heads, shard.sizes.attn_tp(), shard.place.attn_rank);
}

Range linear_value_heads(const ModelConfig& config, const Shard& shard) {
  return split(config.linear_value_heads, shard.sizes.attn_tp(), shard.place.attn_rank);
}

Range vocab_rows(const ModelConfig& config, const Shard& shard) {
  return split(config.vocab_size, shard.sizes.attn_tp(), shard.place.attn_rank);
}

Range dense_widths(const ModelConfig& config, const Shard& shard) {
  return split(config.intermediate_size, shard.sizes.tp, shard.place.tp_rank);
}

Range expert_widths(const ModelConfig& config, const Shard& shard) {
  return split(config.moe_intermediate_size, shard.sizes.moe_tp(), shard.place.moe_rank);
}

Range shared_widths(const ModelConfig& config, const Shard& shard) {
  return split(config.shared_intermediate_size, shard.sizes.moe_tp(), shard.place.moe_rank);
}

Range experts_held(const ModelConfig& config, const Shard& shard) {
  return split(config.experts, shard.sizes.ep, shard.place.ep_rank);
}

}  // namespace hylas
