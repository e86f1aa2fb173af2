#include "model/layer.h"

namespace hylas {
namespace {

Result<std::variant<DeltaNet, GatedAttention>> load_mixer(const LoadContext& context, const std::string& prefix,
                                                          LayerKind kind, const std::string& kv_kind, int32_t layer) {
  using Mixer = std::variant<DeltaNet, GatedAttention>;
  if (kind == LayerKind::kLinear) {
    HYLAS_ASSIGN(DeltaNet net, DeltaNet::load(context, prefix + "linear_attn.", layer));
    return Mixer(std::move(net));
  }
  HYLAS_ASSIGN(GatedAttention attention, GatedAttention::load(context, prefix + "self_attn.", kv_kind, layer));
  return Mixer(std::move(attention));
}

}  // namespace

Result<Layer> Layer::load(const LoadContext& context, const std::string& prefix, LayerKind kind,
                          const std::string& kv_kind, int32_t layer_id) {
  HYLAS_ASSIGN(auto mixer, load_mixer(context, prefix, kind, kv_kind, layer_id));
  HYLAS_ASSIGN(FeedForward ffn, FeedForward::load(context, prefix + "mlp."));
  Layer layer(std::move(mixer), std::move(ffn));
  const int64_t hidden = context.config.hidden_size;
  layer.hidden_size_ = hidden;
  layer.slices_ = slices_of(context.shard.sizes.attn_tp(), context.linear_slices_total);
  HYLAS_ASSIGN(layer.input_norm_, context.source.tensor(prefix + "input_layernorm.weight", {hidden}));
  HYLAS_ASSIGN(layer.post_norm_, context.source.tensor(prefix + "post_attention_layernorm.weight", {hidden}));
  return layer;
}

RowsNorm Layer::input_norm(const Step& step, DType act) const {
  return {input_norm_, std::visit([&](const auto& mixer) { return mixer.input_form(step, act); }, mixer_)};
}

// A dp group without tokens in this step still takes part in the experts' exchange.
void Layer::forward(const Step& step, const Tensor& hidden, const ActRows& normed, const RowsNorm& next_norm,
                    float eps) const {
  const bool idle = step.batch.tokens == 0;
  const ActRows inner = normed.in(ffn_.input_form(step, hidden.dtype));
  if (!idle) {
    ArenaScope scope(step.arena);
    Comm* group = step.comms.attn.get();
    const LinearWeight& last = std::visit([](const auto& mixer) -> const LinearWeight& { return mixer.out(); }, mixer_);
    const DType type = partial_type(step, group, last, hidden.dtype, slices_, step.batch.tokens);
    const Tensor partials = step.arena.allocate(type, {slices_, step.batch.tokens, hidden_size_});
    const NormBehind behind = {hidden, post_norm_, eps, inner};
    std::visit([&](const auto& mixer) { mixer.forward(step, normed, {partials, group}, behind); }, mixer_);
  }
  ArenaScope scope(step.arena);
  const ActRows out = next_norm.weight ? normed.in(next_norm.form) : ActRows();
  ffn_.forward(step, inner, {hidden, next_norm.weight, eps, out});
}

std::optional<RowLayer> Layer::row_layer(const Step& step) const {
  const MoeWeights* moe = ffn_.experts();
  if (!moe) return {};
  RowLayer row{.input_norm = input_norm_,
               .out = std::visit([](const auto& mixer) { return mixer.out(); }, mixer_),
               .post_norm = post_norm_,
               .router = moe->router,
               .shared_gate = moe->shared_gate,
               .choices = moe->experts_per_token,
               .experts = &moe->experts,
               .shared = &moe->shared};
  if (const auto* net = std::get_if<DeltaNet>(&mixer_)) row.mixer = net->row_mixer(step);
  return row;
}

void Layer::allocate(Arena& arena, int64_t tokens, DType act) const {
  {
    ArenaScope scope(arena);
    arena.allocate(DType::kF32, {slices_, tokens, hidden_size_});
    std::visit([&](const auto& mixer) { mixer.allocate(arena, tokens, act); }, mixer_);
  }
  ffn_.allocate(arena, tokens, act);
}

}  // namespace hylas
