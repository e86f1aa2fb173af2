#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "model/layer.h"
#include "model/mtp.h"
#include "model/token_embedding.h"

namespace hylas {

namespace {

// What layers that run at once make for the attention layer behind them (Ops::row_products_taken).
struct RowInputs {
  std::optional<GatedAttention::Scratch> scratch;
  bool made = false;
};

}  // namespace

struct Decoder::Impl {
  ModelConfig config;
  DecoderOptions options;
  Ops* ops = nullptr;
  const RankComms* comms = nullptr;
  TokenEmbedding embedding;   // on the last stage too when the head is tied or MTP needs it
  std::vector<Layer> layers;  // of this stage
  Tensor norm;                // [H], last stage
  LinearWeight head;          // [vocab rows of this rank, H], last stage
  std::optional<Mtp> mtp;

  bool first() const { return options.layer_begin == 0; }
  bool last() const { return options.layer_end == config.num_layers; }
  Status load(WeightSource& source);
  // How many layers from `first` on ran at once (Ops::row_layers), `normed` as Layer::forward has it; 0: none.
  size_t forward_row(const Step& step, size_t first, const Tensor& hidden, const ActRows& normed,
                     RowInputs& inputs) const;
  // Whether layer `i` may get its first products from those before it.
  bool takes_row_inputs(const Step& step, size_t i, const Tensor& hidden) const;
  void run_row(const Step& step, size_t first, std::span<const RowLayer> run, const Tensor& hidden,
               const ActRows& normed, RowInputs& inputs) const;
  Step make_step(const Batch& batch, StatePools& pools, Arena& arena, std::span<const int32_t> group_tokens) const;
};

Status Decoder::Impl::load(WeightSource& source) {
  const std::string& prefix = config.prefix;
  const LoadContext context{config,
                            options.shard,
                            source,
                            options.dispatch_tokens,
                            ops->expert_slices_total(),
                            ops->linear_slices_total(),
                            comms->experts != nullptr};
  if (first() || (last() && (config.tie_word_embeddings || options.with_mtp))) {
    HYLAS_ASSIGN(embedding, TokenEmbedding::load(context));
  }
  for (int32_t i = options.layer_begin; i < options.layer_end; ++i) {
    const std::string layer_prefix = fmt::format("{}layers.{}.", prefix, i);
    HYLAS_ASSIGN(Layer layer, Layer::load(context, layer_prefix, config.layer_types[i], "kv", i));
    layers.push_back(std::move(layer));
  }
  if (!last()) return {};
  HYLAS_ASSIGN(norm, source.tensor(prefix + "norm.weight", {config.hidden_size}));
  if (config.tie_word_embeddings) {
    head.weight = embedding.table();
  } else {
    const Range rows = vocab_rows(config, options.shard);
    HYLAS_ASSIGN(head, source.linear_rows("lm_head", config.vocab_size, config.hidden_size, {&rows, 1}));
  }
  if (options.with_mtp) {
    HYLAS_ASSIGN(mtp, Mtp::load(context, embedding));
  }
  return {};
}

Result<std::unique_ptr<Decoder>> Decoder::make(const ModelConfig& config, const DecoderOptions& options,
                                               WeightSource& source, Ops& ops, const RankComms& comms) {
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  impl->options = options;
  impl->ops = &ops;
  impl->comms = &comms;
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
  arena.allocate(act, {tokens, hidden});                            // the residual stream
  allocate_rows(arena, act, tokens, hidden);                        // its normed form
  arena.allocate(DType::kF32, {tokens, m.config.rope.rotary_dim});  // rope table
  if (m.first()) m.embedding.allocate(arena, tokens);
  const auto attends = std::ranges::find_if(m.layers, [](const Layer& layer) { return layer.attention(); });
  if (attends != m.layers.end()) attends->attention()->allocate(arena, 1, act);  // RowInputs
  for (const Layer& layer : m.layers) layer.allocate(arena, tokens, act);
  if (m.mtp) {
    arena.allocate(DType::kI32, {tokens});  // ids for it
    arena.allocate(DType::kI32, {tokens});
    arena.allocate(act, {tokens, hidden});
    ArenaScope scope(arena);
    m.mtp->allocate(arena, tokens, act);
  }
  if (m.last()) {
    arena.allocate(act, {rows_logits, hidden});
    arena.allocate(act, {rows_logits, hidden});
    arena.allocate(DType::kF32, {rows_logits, m.config.vocab_size});
    if (m.comms->attn) arena.allocate(DType::kF32, {rows_logits, m.head.weight.dim(0)});
  }
  return arena.bytes_peak();
}

Tensor Decoder::embed(const Batch& batch, Arena& arena) {
  const Impl& m = *impl_;
  HYLAS_CHECK(m.first(), "only the first stage embeds");
  Tensor hidden = arena.allocate(m.options.act, {batch.tokens, m.config.hidden_size});
  m.embedding.forward(*m.ops, *m.comms, arena, batch.token_ids, hidden);
  return hidden;
}

Step Decoder::Impl::make_step(const Batch& batch, StatePools& pools, Arena& arena,
                              std::span<const int32_t> group_tokens) const {
  const Tensor rope = arena.allocate(DType::kF32, {batch.tokens, config.rope.rotary_dim});
  if (batch.tokens > 0) ops->rope_table(batch.positions, config.rope, rope);
  return Step{*ops, batch, pools, arena, *comms, group_tokens, rope};
}

bool Decoder::Impl::takes_row_inputs(const Step& step, size_t i, const Tensor& hidden) const {
  if (i >= layers.size() || !layers[i].attention()) return false;
  const std::optional<RowLayer> row = layers[i].row_layer(step);
  return row && step.ops.row_layers_taken({&*row, 1}, hidden, step.batch) > 0 &&
         step.ops.row_products_taken(layers[i].attention()->inputs());
}

void Decoder::Impl::run_row(const Step& step, size_t first, std::span<const RowLayer> run, const Tensor& hidden,
                            const ActRows& normed, RowInputs& inputs) const {
  const size_t next = first + run.size();
  const RowsNorm norm = next < layers.size() ? layers[next].input_norm(step, hidden.dtype) : RowsNorm();
  HYLAS_CHECK(norm.form == RowForm::kValues, "one row in e4m3");
  const bool makes = takes_row_inputs(step, next, hidden);
  if (makes && !inputs.scratch) inputs.scratch = layers[next].attention()->allocate(step.arena, 1, hidden.dtype);
  ArenaScope scope(step.arena);
  Tensor mixed;
  if (const GatedAttention* attention = layers[first].attention()) {
    const auto scratch = inputs.made ? *inputs.scratch : attention->allocate(step.arena, 1, hidden.dtype);
    if (!inputs.made) step.ops.linear(normed, attention->inputs(), attention->inputs_of(scratch));
    mixed = attention->attend(step, scratch).values;
  }
  RowBehind behind{.norm = norm.weight, .normed = normed.values};
  std::array<LinearWeight, 3> weights;
  std::array<Tensor, 3> outs;
  if (makes) {
    weights = layers[next].attention()->inputs();
    outs = layers[next].attention()->inputs_of(*inputs.scratch);
    behind.weights = weights;
    behind.outs = outs;
  }
  step.ops.row_layers(run, mixed, hidden, behind, config.rms_eps, step.batch);
  inputs.made = makes;
}

size_t Decoder::Impl::forward_row(const Step& step, size_t first, const Tensor& hidden, const ActRows& normed,
                                  RowInputs& inputs) const {
  const RankComms& comms = step.comms;
  const size_t most = step.ops.row_layers_max();
  if (most == 0 || step.batch.tokens != 1 || comms.stage || comms.attn || comms.dp || comms.ep) return 0;
  std::vector<RowLayer> run;
  for (size_t i = first; i < layers.size() && run.size() < most; ++i) {
    std::optional<RowLayer> row = layers[i].row_layer(step);
    if (!row || (i > first && !row->mixer)) break;
    run.push_back(*std::move(row));
    // What comes behind is written as values alone.
    const size_t next = i + 1;
    if (next < layers.size() && layers[next].input_norm(step, hidden.dtype).form != RowForm::kValues) return 0;
  }
  const size_t taken = step.ops.row_layers_taken(run, hidden, step.batch);
  HYLAS_CHECK(taken > 0 || !inputs.made, "products for a layer that was not taken");
  if (taken > 0) run_row(step, first, std::span(run).first(taken), hidden, normed, inputs);
  return taken;
}

void Decoder::forward(const Batch& batch, StatePools& pools, const Tensor& hidden, Arena& arena,
                      std::span<const int32_t> group_tokens) {
  const Impl& m = *impl_;
  ArenaScope scope(arena);
  const Step step = m.make_step(batch, pools, arena, group_tokens);
  const DType act = m.options.act;
  const ActRows room = allocate_rows(arena, act, batch.tokens, m.config.hidden_size);
  RowsNorm norm = m.layers.front().input_norm(step, act);
  ActRows normed = room.in(norm.form);
  if (batch.tokens > 0) m.ops->rms_norm(hidden, norm.weight, m.config.rms_eps, normed);
  RowInputs row_inputs;
  for (size_t i = 0; i < m.layers.size(); ++i) {
    if (const size_t taken = m.forward_row(step, i, hidden, normed, row_inputs)) {
      i += taken - 1;
      continue;
    }
    norm = i + 1 < m.layers.size() ? m.layers[i + 1].input_norm(step, act) : RowsNorm();
    m.layers[i].forward(step, hidden, normed, norm, m.config.rms_eps);
    normed = room.in(norm.form);
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
  if (!m.comms->attn) {
    m.ops->linear(normed, weights, {&logits, 1});
    return logits;
  }
  ArenaScope scope(arena);
  const Tensor mine = arena.allocate(DType::kF32, {normed.dim(0), m.head.weight.dim(0)});
  m.ops->linear(normed, weights, {&mine, 1});
  m.comms->attn->all_gather_columns(mine, logits);
  return logits;
}

Tensor Decoder::mtp_forward(const Batch& batch, StatePools& pools, const Tensor& normed, const Tensor& next_ids,
                            Arena& arena) {
  const Impl& m = *impl_;
  HYLAS_CHECK(m.mtp.has_value(), "this stage has no MTP head");
  Tensor out = arena.allocate(m.options.act, {batch.tokens, m.config.hidden_size});
  ArenaScope scope(arena);
  const Step step = m.make_step(batch, pools, arena, {});
  m.mtp->forward(step, normed, next_ids, out);
  return out;
}

}  // namespace hylas
