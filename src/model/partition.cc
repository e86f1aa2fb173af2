#include "model/partition.h"

#include <charconv>
#include <limits>

namespace hylas {
namespace {

double feed_forward_cost(const ModelConfig& config) {
  const double hidden = config.hidden_size;
  if (config.experts == 0) return 3 * hidden * config.intermediate_size;
  const double expert = 3 * hidden * config.moe_intermediate_size,
               shared = 3 * hidden * config.shared_intermediate_size;
  return hidden * (config.experts + 1) + config.experts_per_token * expert + shared;
}

// Projections, then scores and values over half the context on average.
double full_attention_cost(const ModelConfig& config, double context) {
  const double hidden = config.hidden_size, q = double{1} * config.heads * config.head_dim;
  const double kv = double{1} * config.kv_heads * config.head_dim;
  return hidden * (2 * q + 2 * kv) + q * hidden + 2 * q * context / 2;
}

// Projections, and four passes over the state of a head for each token (decay, read, write, output).
double linear_attention_cost(const ModelConfig& config) {
  const double hidden = config.hidden_size, values = double{1} * config.linear_value_heads * config.linear_value_dim;
  return hidden * (config.channels() + values + 2 * config.linear_value_heads) + values * hidden +
         4.0 * config.channels() + 4 * values * config.linear_key_dim;
}

}  // namespace

PartitionCosts estimate_costs(const ModelConfig& config, int32_t context, int32_t tokens_per_logits) {
  PartitionCosts costs;
  const double ffn = feed_forward_cost(config), full = full_attention_cost(config, context) + ffn;
  const double linear = linear_attention_cost(config) + ffn;
  for (const LayerKind kind : config.layer_types) costs.layers.push_back(kind == LayerKind::kFull ? full : linear);
  costs.first = config.hidden_size;
  costs.last = double{1} * config.vocab_size * config.hidden_size / tokens_per_logits;
  return costs;
}

Result<std::vector<int32_t>> balance(const PartitionCosts& costs, int32_t stages) {
  const auto layers = static_cast<int32_t>(costs.layers.size());
  if (stages > layers) {
    return error(ErrorCode::kUnsupported, "--pp-size {}: the model has only {} layers", stages, layers);
  }
  std::vector<double> before(layers + 1, 0);
  for (int32_t i = 0; i < layers; ++i) before[i + 1] = before[i] + costs.layers[i];
  // best[s][i]: cost of the dearest of the first s + 1 stages over the layers [0, i); from[s][i]: where stage s begins.
  const double infinite = std::numeric_limits<double>::infinity();
  std::vector best(stages, std::vector<double>(layers + 1, infinite));
  std::vector from(stages, std::vector<int32_t>(layers + 1, 0));
  for (int32_t s = 0; s < stages; ++s) {
    const double extra = (s == 0 ? costs.first : 0) + (s + 1 == stages ? costs.last : 0);
    for (int32_t end = s + 1; end <= layers; ++end) {
      for (int32_t begin = s == 0 ? 0 : s; begin < (s == 0 ? 1 : end); ++begin) {
        const double others = s == 0 ? 0 : best[s - 1][begin];
        const double cost = std::max(others, before[end] - before[begin] + extra);
        // Later begins win ties: the last stages, which also have the head, stay short.
        if (cost <= best[s][end]) {
          best[s][end] = cost;
          from[s][end] = begin;
        }
      }
    }
  }
  std::vector<int32_t> begins(stages + 1, layers);
  for (int32_t s = stages - 1; s >= 0; --s) begins[s] = from[s][begins[s + 1]];
  return begins;
}

Result<std::vector<int32_t>> parse_partition(const std::string& text, int32_t num_layers, int32_t stages) {
  std::vector<int32_t> begins = {0};
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    int32_t count = 0;
    const auto parsed = std::from_chars(text.data() + at, text.data() + comma, count);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + comma || count < 1) {
      return error(ErrorCode::kInvalid, "--pp-layer-partition {}: `{}` is no number of layers", text,
                   text.substr(at, comma - at));
    }
    begins.push_back(begins.back() + std::min(count, 1 << 20));
    at = comma + 1;
  }
  if (static_cast<int32_t>(begins.size()) != stages + 1) {
    return error(ErrorCode::kUnsupported, "--pp-layer-partition {}: {} numbers for {} stages (--pp-size)", text,
                 begins.size() - 1, stages);
  }
  if (begins.back() != num_layers) {
    return error(ErrorCode::kUnsupported, "--pp-layer-partition {}: the sum is {}, but the model has {} layers", text,
                 begins.back(), num_layers);
  }
  return begins;
}

}  // namespace hylas
