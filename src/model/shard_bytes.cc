#include "model/shard_bytes.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "model/manifest.h"
#include "ops/weight.h"

namespace hylas {
namespace {

// Rows and columns that a rank reads of a tensor seen as a matrix. FP8 blocks are never cut, so their scales follow.
struct PartSize {
  int64_t rows = 0, columns = 0;
};

std::optional<int64_t> expert_of(std::string_view name) {
  constexpr std::string_view kExperts = "mlp.experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  const char* const begin = name.data() + at + kExperts.size();
  int64_t expert = 0;
  if (std::from_chars(begin, name.data() + name.size(), expert).ec != std::errc()) return std::nullopt;
  return expert;
}

bool holds(Range range, int64_t index) { return index >= range.begin && index < range.begin + range.count; }

// The part of one tensor, by the last words of its name.
class Parts {
 public:
  Parts(const ModelConfig& config, const Shard& shard) : config_(config), shard_(shard) {}

  PartSize of(const TensorSpec& spec) const {
    const std::string_view name = spec.name;
    const auto ends = [&](std::string_view suffix) { return name.ends_with(suffix); };
    const int64_t columns = spec.shape.size() > 1 ? spec.shape.back() : 1;
    const int64_t rows = spec.elements() / columns;
    if (ends("embed_tokens.weight") || ends("lm_head.weight")) return {vocab_rows(config_, shard_).count, columns};
    if (name.find("linear_attn.") != std::string_view::npos) return linear_attention(name, rows, columns);
    if (name.find("self_attn.") != std::string_view::npos) return full_attention(name, rows, columns);
    if (name.find("mlp.experts.") != std::string_view::npos) return experts(spec, columns);
    const bool is_down = ends("down_proj.weight"), is_up = ends("gate_proj.weight") || ends("up_proj.weight");
    if (!is_down && !is_up) return {rows, columns};  // norms, router, shared gate, MTP projection
    const bool shared = name.find("shared_expert.") != std::string_view::npos;
    const int64_t width = (shared ? shared_widths(config_, shard_) : dense_widths(config_, shard_)).count;
    return is_down ? PartSize{rows, width} : PartSize{width, columns};
  }

 private:
  PartSize linear_attention(std::string_view name, int64_t rows, int64_t columns) const {
    const int64_t heads = linear_value_heads(config_, shard_).count, values = heads * config_.linear_value_dim;
    const int64_t keys = linear_key_heads(config_, shard_).count * config_.linear_key_dim;
    if (name.ends_with("in_proj_qkv.weight") || name.ends_with("conv1d.weight")) {
      return {(2 * keys + values) * rows / config_.channels(), columns};
    }
    if (name.ends_with("in_proj_z.weight")) return {values, columns};
    if (name.ends_with("out_proj.weight")) return {rows, values};
    if (name.ends_with("norm.weight")) return {rows, columns};
    return {heads, columns};  // in_proj_a, in_proj_b, A_log, dt_bias
  }

  PartSize full_attention(std::string_view name, int64_t rows, int64_t columns) const {
    const int64_t q = query_heads(config_, shard_).count * config_.head_dim;
    if (name.ends_with("q_proj.weight")) return {2 * q, columns};
    if (name.ends_with("o_proj.weight")) return {rows, q};
    if (name.ends_with("norm.weight")) return {rows, columns};
    return {kv_heads(config_, shard_).count * config_.head_dim, columns};  // k_proj, v_proj
  }

  // Fused, [experts, 2 width, H] and [experts, H, width], or a matrix of each.
  PartSize experts(const TensorSpec& spec, int64_t columns) const {
    const std::string_view name = spec.name;
    const Range held = experts_held(config_, shard_);
    const int64_t width = expert_widths(config_, shard_).count, hidden = config_.hidden_size;
    if (name.ends_with("experts.gate_up_proj")) return {held.count * 2 * width, columns};
    if (name.ends_with("experts.down_proj")) return {held.count * hidden, width};
    if (!holds(held, expert_of(name).value())) return {};
    return name.ends_with("down_proj.weight") ? PartSize{hidden, width} : PartSize{width, columns};
  }

  const ModelConfig& config_;
  const Shard& shard_;
};

bool is_read(const TensorSpec& spec, const ModelConfig& config, const DecoderOptions& options) {
  const bool first = options.layer_begin == 0, last = options.layer_end == config.num_layers;
  if (spec.mtp) return last && options.with_mtp;
  if (spec.layer >= 0) return spec.layer >= options.layer_begin && spec.layer < options.layer_end;
  if (!spec.name.ends_with("embed_tokens.weight")) return last;  // final norm, head
  return first || (last && (config.tie_word_embeddings || options.with_mtp));
}

}  // namespace

int64_t shard_bytes(const ModelConfig& config, const DecoderOptions& options) {
  const Parts parts(config, options.shard);
  int64_t bytes = 0;
  for (const TensorSpec& spec : manifest(config)) {
    if (!is_read(spec, config, options)) continue;
    const PartSize part = parts.of(spec);
    bytes += part.rows * part.columns * static_cast<int64_t>(dtype_bytes(spec.dtype));
    if (spec.dtype != DType::kF8E4M3) continue;
    const int64_t blocks = (part.rows + kFp8Block - 1) / kFp8Block * ((part.columns + kFp8Block - 1) / kFp8Block);
    bytes += blocks * static_cast<int64_t>(sizeof(float));
  }
  return bytes;
}

}  // namespace hylas
