#include "model/manifest.h"

#include <utility>

namespace hylas {
namespace {

// Appends tensors of one part of the model; names are relative to `prefix`.
class Builder {
 public:
  Builder(const ModelConfig& config, std::vector<TensorSpec>& out) : config_(config), out_(out) {}

  std::string prefix;
  int32_t layer = -1;
  bool mtp = false;

  void plain(const std::string& name, std::vector<int64_t> shape) { add(name, std::move(shape), DType::kBF16); }
  // A projection: FP8 in the quantised releases (model.md section 3.5).
  void projection(const std::string& name, int64_t out, int64_t in) {
    add(name + ".weight", {out, in}, config_.quantised ? DType::kF8E4M3 : DType::kBF16);
  }

  void linear_attention();
  void full_attention();
  void feed_forward(ExpertStyle style);
  void decoder_layer(LayerKind kind, ExpertStyle style);
  void mtp_head(ExpertStyle style);

 private:
  void add(const std::string& name, std::vector<int64_t> shape, DType dtype) {
    out_.push_back(TensorSpec{prefix + name, std::move(shape), dtype, layer, mtp});
  }
  void experts(ExpertStyle style);

  const ModelConfig& config_;
  std::vector<TensorSpec>& out_;
};

void Builder::linear_attention() {
  const int64_t hidden = config_.hidden_size, heads = config_.linear_value_heads;
  const int64_t values = heads * config_.linear_value_dim;
  projection("linear_attn.in_proj_qkv", config_.channels(), hidden);
  projection("linear_attn.in_proj_z", values, hidden);
  plain("linear_attn.in_proj_b.weight", {heads, hidden});
  plain("linear_attn.in_proj_a.weight", {heads, hidden});
  plain("linear_attn.conv1d.weight", {config_.channels(), 1, config_.conv_kernel});
  plain("linear_attn.A_log", {heads});
  plain("linear_attn.dt_bias", {heads});
  plain("linear_attn.norm.weight", {config_.linear_value_dim});
  projection("linear_attn.out_proj", hidden, values);
}

void Builder::full_attention() {
  const int64_t hidden = config_.hidden_size, dim = config_.head_dim;
  projection("self_attn.q_proj", int64_t{config_.heads} * 2 * dim, hidden);
  projection("self_attn.k_proj", config_.kv_heads * dim, hidden);
  projection("self_attn.v_proj", config_.kv_heads * dim, hidden);
  projection("self_attn.o_proj", hidden, config_.heads * dim);
  plain("self_attn.q_norm.weight", {dim});
  plain("self_attn.k_norm.weight", {dim});
}

void Builder::experts(ExpertStyle style) {
  const int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
  if (style == ExpertStyle::kFused) {
    plain("mlp.experts.gate_up_proj", {config_.experts, 2 * width, hidden});
    plain("mlp.experts.down_proj", {config_.experts, hidden, width});
    return;
  }
  for (int32_t e = 0; e < config_.experts; ++e) {
    const std::string expert = fmt::format("mlp.experts.{}.", e);
    projection(expert + "gate_proj", width, hidden);
    projection(expert + "up_proj", width, hidden);
    projection(expert + "down_proj", hidden, width);
  }
}

void Builder::feed_forward(ExpertStyle style) {
  const int64_t hidden = config_.hidden_size;
  const std::string dense = config_.experts ? "mlp.shared_expert." : "mlp.";
  const int64_t width = config_.experts ? config_.shared_intermediate_size : config_.intermediate_size;
  if (config_.experts) {
    plain("mlp.gate.weight", {config_.experts, hidden});
    experts(style);
    plain("mlp.shared_expert_gate.weight", {1, hidden});
  }
  projection(dense + "gate_proj", width, hidden);
  projection(dense + "up_proj", width, hidden);
  projection(dense + "down_proj", hidden, width);
}

void Builder::decoder_layer(LayerKind kind, ExpertStyle style) {
  plain("input_layernorm.weight", {config_.hidden_size});
  if (kind == LayerKind::kFull) {
    full_attention();
  } else {
    linear_attention();
  }
  plain("post_attention_layernorm.weight", {config_.hidden_size});
  feed_forward(style);
}

void Builder::mtp_head(ExpertStyle style) {
  const int64_t hidden = config_.hidden_size;
  mtp = true;
  layer = config_.num_layers;
  prefix = "mtp.";
  plain("fc.weight", {hidden, 2 * hidden});
  plain("norm.weight", {hidden});
  plain("pre_fc_norm_embedding.weight", {hidden});
  plain("pre_fc_norm_hidden.weight", {hidden});
  prefix = "mtp.layers.0.";
  decoder_layer(LayerKind::kFull, style);
}

}  // namespace

ManifestStyle released_style(const ModelConfig& config) {
  const ExpertStyle style = config.quantised ? ExpertStyle::kPerExpert : ExpertStyle::kFused;
  return ManifestStyle{style, style};
}

ManifestStyle found_style(const Checkpoint& checkpoint, const ModelConfig& config) {
  const auto style = [&](const std::string& layer) {
    return checkpoint.find(layer + "mlp.experts.gate_up_proj") ? ExpertStyle::kFused : ExpertStyle::kPerExpert;
  };
  return ManifestStyle{style(config.prefix + "layers.0."), style("mtp.layers.0.")};
}

std::vector<TensorSpec> manifest(const ModelConfig& config, const ManifestStyle& style) {
  std::vector<TensorSpec> specs;
  Builder builder(config, specs);
  builder.prefix = config.prefix;
  builder.plain("embed_tokens.weight", {config.vocab_size, config.hidden_size});
  for (int32_t i = 0; i < config.num_layers; ++i) {
    builder.layer = i;
    builder.prefix = fmt::format("{}layers.{}.", config.prefix, i);
    builder.decoder_layer(config.layer_types[i], style.experts);
  }
  builder.layer = -1;
  builder.prefix = config.prefix;
  builder.plain("norm.weight", {config.hidden_size});
  builder.prefix.clear();
  if (!config.tie_word_embeddings) builder.plain("lm_head.weight", {config.vocab_size, config.hidden_size});
  if (config.mtp_layers > 0) builder.mtp_head(style.mtp_experts);
  return specs;
}

}  // namespace hylas
