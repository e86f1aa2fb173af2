#include "engine/layout_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "model/shard_bytes.h"

namespace hylas {
namespace {

std::vector<double> stage_costs(const EngineConfiguration& chosen, const PartitionCosts& costs) {
  std::vector<double> stages;
  for (size_t s = 0; s + 1 < chosen.stage_begins.size(); ++s) {
    const auto layers = costs.layers.begin();
    stages.push_back(std::accumulate(layers + chosen.stage_begins[s], layers + chosen.stage_begins[s + 1], 0.0));
  }
  stages.front() += costs.first;
  stages.back() += costs.last;
  return stages;
}

// model/layer.h, feed_forward.h and expert_exchange.h say what is exchanged.
LinkBytes link_bytes(const EngineConfiguration& chosen, int32_t layers, bool is_last) {
  const ParallelSizes& sizes = chosen.parallel;
  const ModelConfig& model = chosen.model;
  const double act = static_cast<double>(dtype_bytes(chosen.decoder.act)), row = act * model.hidden_size;
  const auto ring = [&](int32_t ranks) { return 2.0 * (ranks - 1) / ranks * row; };
  LinkBytes link;
  if (!is_last) link.stage = row;
  link.all_reduce = layers * ring(sizes.attn_tp());
  const bool all_tokens = sizes.dp > 1 && (model.experts == 0 || sizes.moe_tp() > 1);
  if (all_tokens) link.gather = layers * (sizes.dp - 1) * row;
  if (sizes.ep == 1) {
    link.all_reduce += layers * ring(sizes.tp) * (all_tokens ? sizes.dp : 1);
    return link;
  }
  // Every (token, expert) pair whose expert lies elsewhere; each rank is home to its share of the group's tokens.
  const double pairs = 1.0 * model.experts_per_token * (sizes.ep - 1) / sizes.ep;
  const double home = sizes.dp > 1 ? 1.0 / sizes.attn_tp() : 1.0 / sizes.ep;
  link.dispatch = layers * home * pairs * row;
  link.combine = layers * home * pairs * slices_of(sizes.moe_tp()) * sizeof(float) * model.hidden_size;
  const int32_t holders = sizes.dp > 1 ? sizes.attn_tp() : sizes.ep;
  link.gather += layers * home * (holders - 1) * sizeof(float) * model.hidden_size;
  return link;
}

Error weights_too_large(int32_t stage, int64_t weight_bytes, const RankMemory& memory) {
  const auto gb = [](int64_t bytes) { return 1e-9 * static_cast<double>(bytes); };
  const std::string workspace =
      memory.workspace_bytes > 0 ? fmt::format(" (and {:.1f} GB of workspace)", gb(memory.workspace_bytes)) : "";
  return error(
      ErrorCode::kUnsupported,
      "the weights of a rank of stage {} are {:.1f} GB{}, its memory is {:.1f} GB: take more ranks (--tp-size, "
      "--pp-size) or larger ones",
      stage, gb(weight_bytes), workspace, gb(memory.bytes));
}

}  // namespace

int64_t LayoutPlan::batch(int64_t tokens) const {
  int64_t least = std::numeric_limits<int64_t>::max();
  const int64_t pages = (tokens + page_size - 1) / page_size;
  for (const StagePlan& stage : stages) {
    const int64_t each = pages * page_size * stage.kv_bytes_per_token + stage.state_bytes_per_sequence;
    if (each > 0) least = std::min(least, stage.cache_bytes / each);
  }
  if (kv_tokens_max > 0) least = std::min(least, kv_tokens_max / page_size / pages);
  return least * groups;
}

Result<LayoutPlan> plan_layout(const EngineConfiguration& chosen, const RankMemory& memory,
                               const PartitionCosts& costs) {
  LayoutPlan plan;
  plan.context_length = chosen.context_length;
  plan.groups = chosen.parallel.dp;
  plan.page_size = chosen.limits.page_size;
  plan.kv_tokens_max = chosen.kv_tokens_max;
  const std::vector<double> stage_cost = stage_costs(chosen, costs);
  const double cost = std::accumulate(stage_cost.begin(), stage_cost.end(), 0.0);
  for (int32_t s = 0; s < chosen.parallel.pp; ++s) {
    StagePlan stage;
    stage.layer_begin = chosen.stage_begins[s];
    stage.layer_end = chosen.stage_begins[s + 1];
    const auto types = chosen.model.layer_types.begin();
    stage.full_layers =
        static_cast<int32_t>(std::count(types + stage.layer_begin, types + stage.layer_end, LayerKind::kFull));
    stage.cost_share = stage_cost[s] / cost;
    for (int32_t r = 0; r < chosen.parallel.tp; ++r) {
      const DecoderOptions decoder = chosen.decoder_of(s * chosen.parallel.tp + r);
      const int64_t bytes = shard_bytes(chosen.model, decoder);
      plan.weight_bytes_total += bytes;
      stage.weight_bytes = std::max(stage.weight_bytes, bytes);
      const StateLayout layout = state_layout(chosen.model, decoder);
      stage.kv_bytes_per_token = std::max(stage.kv_bytes_per_token, layout.bytes_per_token());
      stage.state_bytes_per_sequence = std::max(stage.state_bytes_per_sequence, layout.bytes_per_sequence());
    }
    const int64_t left = memory.bytes - memory.workspace_bytes - stage.weight_bytes;
    if (left < 0) return weights_too_large(s, stage.weight_bytes, memory);
    stage.cache_bytes = static_cast<int64_t>(static_cast<double>(left) * chosen.memory_fraction);
    stage.link = link_bytes(chosen, stage.layer_end - stage.layer_begin, s + 1 == chosen.parallel.pp);
    plan.stages.push_back(stage);
  }
  return plan;
}

}  // namespace hylas
