#include "model/layer.h"

namespace hylas {
namespace {

Result<std::variant<DeltaNet, GatedAttention>> load_mixer(const ModelConfig& config, WeightSource& source,
                                                          const std::string& prefix, LayerKind kind,
                                                          const std::string& kv_kind, int32_t layer) {
  using Mixer = std::variant<DeltaNet, GatedAttention>;
  if (kind == LayerKind::kLinear) {
    HYLAS_ASSIGN(DeltaNet net, DeltaNet::load(config, source, prefix + "linear_attn.", layer));
    return Mixer(std::move(net));
  }
  HYLAS_ASSIGN(GatedAttention attention,
               GatedAttention::load(config, source, prefix + "self_attn.", kv_kind, layer));
  return Mixer(std::move(attention));
}

}  // namespace

Result<Layer> Layer::load(const ModelConfig& config, WeightSource& source, const std::string& prefix, LayerKind kind,
                          const std::string& kv_kind, int32_t layer_id) {
  HYLAS_ASSIGN(auto mixer, load_mixer(config, source, prefix, kind, kv_kind, layer_id));
  HYLAS_ASSIGN(FeedForward ffn, FeedForward::load(config, source, prefix + "mlp."));
  Layer layer(std::move(mixer), std::move(ffn));
  layer.hidden_size_ = config.hidden_size;
  HYLAS_ASSIGN(layer.input_norm_, source.tensor(prefix + "input_layernorm.weight", {config.hidden_size}));
  HYLAS_ASSIGN(layer.post_norm_, source.tensor(prefix + "post_attention_layernorm.weight", {config.hidden_size}));
  return layer;
}

Tensor Layer::allocate_partials(Arena& arena, int64_t tokens) const {
  return arena.allocate(DType::kF32, {kPartialSlices, tokens, hidden_size_});
}

void Layer::forward(const Step& step, const Tensor& hidden, const Tensor& normed, const Tensor& next_norm,
                    float eps) const {
  ArenaScope scope(step.arena);
  const Tensor partials = allocate_partials(step.arena, step.batch.tokens);
  std::visit([&](const auto& mixer) { mixer.forward(step, normed, partials); }, mixer_);
  step.ops.add_rms_norm(partials, hidden, post_norm_, eps, normed);
  ffn_.forward(step, normed, partials);
  step.ops.add_rms_norm(partials, hidden, next_norm, eps, next_norm ? normed : Tensor());
}

void Layer::allocate(Arena& arena, int64_t tokens, DType act) const {
  ArenaScope scope(arena);
  allocate_partials(arena, tokens);
  {
    ArenaScope mixer_scope(arena);
    std::visit([&](const auto& mixer) { mixer.allocate(arena, tokens, act); }, mixer_);
  }
  ffn_.allocate(arena, tokens, act);
}

}  // namespace hylas
