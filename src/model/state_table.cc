// The state table of a stage: which layers keep what (model.md sections 3.1, 3.2, 5).
#include "model/decoder.h"

namespace hylas {
namespace {

StateKind kv_kind(const ModelConfig& config, const DecoderOptions& options, const char* name) {
  const Range heads = kv_heads(config, options.shard);
  return StateKind{
      .name = name,
      .scope = StateScope::kPerToken,
      .segments = {{"k", heads.count, config.head_dim, heads.begin}, {"v", heads.count, config.head_dim, heads.begin}},
      .replicated = kv_replicated(config, options.shard),
      .dtype = options.kv};
}

// The convolution's last three inputs, channel-major: three segments, each split over ranks on its own.
StateKind conv_kind(const ModelConfig& config, const DecoderOptions& options) {
  const int64_t key = config.linear_key_dim * 3;
  const int64_t value = config.linear_value_dim * 3;
  const Range keys = linear_key_heads(config, options.shard);
  const Range values = linear_value_heads(config, options.shard);
  return StateKind{.name = "conv",
                   .scope = StateScope::kPerSequence,
                   .segments = {{"q", keys.count, key, keys.begin},
                                {"k", keys.count, key, keys.begin},
                                {"v", values.count, value, values.begin}},
                   .dtype = options.act};
}

StateKind delta_kind(const ModelConfig& config, const DecoderOptions& options) {
  const Range heads = linear_value_heads(config, options.shard);
  return StateKind{.name = "delta",
                   .scope = StateScope::kPerSequence,
                   .segments = {{"s", heads.count, config.linear_key_dim * config.linear_value_dim, heads.begin}},
                   .dtype = options.state};
}

}  // namespace

StateLayout state_layout(const ModelConfig& config, const DecoderOptions& options) {
  StateKind kv = kv_kind(config, options, "kv");
  StateKind delta = delta_kind(config, options);
  StateKind conv = conv_kind(config, options);
  const auto layers = static_cast<int32_t>(config.num_layers);
  const int32_t end = options.layer_end < 0 ? layers : options.layer_end;
  for (int32_t i = options.layer_begin; i < end; ++i) {
    if (config.layer_types[i] == LayerKind::kFull) {
      kv.layers.push_back(i);
    } else {
      delta.layers.push_back(i);
      conv.layers.push_back(i);
    }
  }
  StateLayout layout;
  for (StateKind* kind : {&kv, &delta, &conv}) {
    if (!kind->layers.empty()) layout.kinds.push_back(std::move(*kind));
  }
  if (options.with_mtp && end == layers) {
    StateKind mtp = kv_kind(config, options, "mtp_kv");
    mtp.layers.push_back(layers);
    layout.kinds.push_back(std::move(mtp));
  }
  return layout;
}

}  // namespace hylas
