#include "model/decoder.h"

#include <algorithm>
#include <optional>

#include "model/layer.h"
#include "model/mtp.h"

namespace hylas {

struct Decoder::Impl {
  ModelConfig config;
  DecoderOptions options;
  Ops* ops = nullptr;
  Tensor embedding;             // [vocab, H]; on the last stage too when the head is tied or MTP needs it
  std::vector<Layer> layers;    // of this stage
  Tensor norm;                  // [H], last stage
  LinearWeight head;            // [vocab, H], last stage
  std::optional<Mtp> mtp;

  bool first() const { return options.layer_begin == 0; }
  bool last() const { return options.layer_end == config.num_layers; }
  Status load(WeightSource& source);
};

Status Decoder::Impl::load(WeightSource& source) {
  const std::string& prefix = config.prefix;
  const int64_t vocab = config.vocab_size;
  const int64_t hidden = config.hidden_size;
  if (first() || (last() && (config.tie_word_embeddings || options.with_mtp))) {
    HYLAS_ASSIGN(embedding, source.tensor(prefix + "embed_tokens.weight", {vocab, hidden}));
  }
  for (int32_t i = options.layer_begin; i < options.layer_end; ++i) {
    const std::string layer_prefix = fmt::format("{}layers.{}.", prefix, i);
    HYLAS_ASSIGN(Layer layer, Layer::load(config, source, layer_prefix, config.layer_types[i], "kv", i));
    layers.push_back(std::move(layer));
  }
  if (!last()) return {};
  HYLAS_ASSIGN(norm, source.tensor(prefix + "norm.weight", {hidden}));
  if (config.tie_word_embeddings) {
    head.weight = embedding;
  } else {
    HYLAS_ASSIGN(head, source.linear("lm_head", vocab, hidden));
  }
  if (options.with_mtp) {
    HYLAS_ASSIGN(mtp, Mtp::load(config, source, embedding));
  }
  return {};
}

Result<std::unique_ptr<Decoder>> Decoder::make(const ModelConfig& config, const DecoderOptions& options,
                                               WeightSource& source, Ops& ops) {
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  impl->options = options;
  impl->ops = &ops;
  if (options.layer_end < 0) impl->options.layer_end = static_cast<int32_t>(config.num_layers);
  HYLAS_CHECK(0 <= options.layer_begin && options.layer_begin < impl->options.layer_end &&
              impl->options.layer_end <= config.num_layers);
  HYLAS_TRY(impl->load(source));
  return std::unique_ptr<Decoder>(new Decoder(std::move(impl)));
}

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::~Decoder() = default;

size_t Decoder::arena_bytes(int64_t tokens, int64_t rows_logits) const {
  const Impl& m = *impl_;
  const DType act = m.options.act;
  const int64_t hidden = m.config.hidden_size;
  Arena arena = Arena::counting();
  arena.allocate(act, {tokens, hidden});                               // the residual stream
  arena.allocate(act, {tokens, hidden});                               // its normed form
  arena.allocate(DType::kF32, {tokens, m.config.rope.rotary_dim});     // rope table
  const size_t mark = arena.mark();
  for (const Layer& layer : m.layers) layer.allocate(arena, tokens, act);
  if (m.mtp) {
    arena.allocate(act, {tokens, hidden});
    m.mtp->allocate(arena, tokens, act);
    arena.reset(mark);
  }
  if (m.last()) {
    arena.allocate(act, {rows_logits, hidden});
    arena.allocate(act, {rows_logits, hidden});
    arena.allocate(DType::kF32, {rows_logits, m.config.vocab_size});
  }
  return arena.bytes_peak();
}

Tensor Decoder::embed(const Batch& batch, Arena& arena) {
  const Impl& m = *impl_;
  HYLAS_CHECK(m.first(), "only the first stage embeds");
  Tensor hidden = arena.allocate(m.options.act, {batch.tokens, m.config.hidden_size});
  m.ops->embed(batch.token_ids, m.embedding, 0, hidden);
  return hidden;
}

namespace {

Tensor make_rope_table(Ops& ops, const ModelConfig& config, const Batch& batch, Arena& arena) {
  Tensor table = arena.allocate(DType::kF32, {batch.tokens, config.rope.rotary_dim});
  ops.rope_table(batch.positions, config.rope, table);
  return table;
}

}  // namespace

void Decoder::forward(const Batch& batch, StatePools& pools, const Tensor& hidden, Arena& arena) {
  const Impl& m = *impl_;
  ArenaScope scope(arena);
  const Step step{*m.ops, batch, pools, arena, make_rope_table(*m.ops, m.config, batch, arena)};
  const Tensor normed = arena.allocate(m.options.act, {batch.tokens, m.config.hidden_size});
  m.ops->rms_norm(hidden, m.layers.front().input_norm(), m.config.rms_eps, normed);
  for (size_t i = 0; i < m.layers.size(); ++i) {
    const Tensor next = i + 1 < m.layers.size() ? m.layers[i + 1].input_norm() : Tensor();
    m.layers[i].forward(step, hidden, normed, next, m.config.rms_eps);
  }
}

Tensor Decoder::final_norm(const Tensor& hidden, const Tensor& index, Arena& arena) {
  const Impl& m = *impl_;
  HYLAS_CHECK(m.last(), "only the last stage has the final norm");
  const int64_t rows = index.dim(0);
  Tensor normed = arena.allocate(m.options.act, {rows, m.config.hidden_size});
  m.ops->gather_rows(hidden, index, normed);
  m.ops->rms_norm(normed, m.norm, m.config.rms_eps, normed);
  return normed;
}

Tensor Decoder::logits(const Tensor& normed, Arena& arena) {
  const Impl& m = *impl_;
  HYLAS_CHECK(m.last(), "only the last stage has the head");
  Tensor logits = arena.allocate(DType::kF32, {normed.dim(0), m.config.vocab_size});
  const LinearWeight weights[] = {m.head};
  const Tensor outs[] = {logits};
  m.ops->linear(normed, weights, outs);
  return logits;
}

Tensor Decoder::mtp_forward(const Batch& batch, StatePools& pools, const Tensor& normed, const Tensor& next_ids,
                            Arena& arena) {
  const Impl& m = *impl_;
  HYLAS_CHECK(m.mtp.has_value(), "this stage has no MTP head");
  Tensor out = arena.allocate(m.options.act, {batch.tokens, m.config.hidden_size});
  ArenaScope scope(arena);
  const Step step{*m.ops, batch, pools, arena, make_rope_table(*m.ops, m.config, batch, arena)};
  m.mtp->forward(step, normed, next_ids, out);
  return out;
}

}  // namespace hylas
