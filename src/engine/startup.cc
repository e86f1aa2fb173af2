#include "engine/startup.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <span>
#include <utility>

#include "base/log.h"
#include "base/progress.h"
#include "engine/gpu_kernels.h"
#include "engine/node_settings.h"
#include "engine/rank_loading.h"

namespace hylas {
namespace {

std::string directory_of(const std::string& model_path) {
  const std::filesystem::path path(model_path);
  return std::filesystem::is_directory(path) ? path.string() : path.parent_path().string();
}

// The directory's name: what clients read in /v1/models unless --served-model-name says otherwise.
std::string name_of(const std::string& model_path) {
  std::error_code ignored;
  std::filesystem::path path = std::filesystem::weakly_canonical(directory_of(model_path), ignored);
  return path.filename().empty() ? model_path : path.filename().string();
}

EngineInfo make_info(const EngineOptions& options, const EngineConfiguration& chosen, const MemoryBudget& budget) {
  EngineInfo info;
  info.model_name = name_of(options.model_path);
  info.context_length = chosen.context_length;
  info.vocab_size = chosen.model.vocab_size;
  info.parallel = chosen.parallel;
  info.kv_tokens_max = budget.pages * chosen.limits.page_size * chosen.parallel.dp;
  info.running_max = budget.slots * chosen.parallel.dp;
  info.page_size = chosen.limits.page_size;
  info.dtype = dtype_name(chosen.decoder.act);
  info.kv_dtype = dtype_name(chosen.decoder.kv);
  info.state_dtype = dtype_name(chosen.decoder.state);
  info.eos_ids = chosen.eos_ids;
  info.role = options.role;
  if (options.role == InstanceRole::kPrefill) info.bootstrap_port = options.bootstrap.port;
  return info;
}

SchedulerOptions make_scheduler_options(const EngineOptions& options, const EngineConfiguration& chosen,
                                        const MemoryBudget& budget) {
  SchedulerOptions scheduler;
  scheduler.role = options.role;
  scheduler.group_ranks = chosen.parallel.pp * chosen.parallel.attn_tp();
  scheduler.pages = budget.pages;
  scheduler.page_size = chosen.limits.page_size;
  scheduler.slots = budget.slots;
  scheduler.context_length = chosen.context_length;
  scheduler.vocab_size = chosen.model.vocab_size;
  scheduler.prefill_tokens_max = chosen.prefill_tokens_max;
  scheduler.enable_dynamic_chunking = chosen.enable_dynamic_chunking;
  scheduler.stages = chosen.parallel.pp;
  scheduler.groups = chosen.parallel.dp;
  scheduler.decode_rows_max = chosen.decode_rows_max;
  scheduler.plans_in_flight_max = chosen.plans_in_flight_max;
  scheduler.eos_ids = chosen.eos_ids;
  scheduler.seed = std::random_device{}();
  return scheduler;
}

void log_choices(const EngineInfo& info, const EngineConfiguration& chosen, const MemoryBudget& budget,
                 std::span<const MemoryUse> memories) {
  const ModelConfig& model = chosen.model;
  const int32_t ranks = chosen.parallel.world();
  log::info("model {}: {}, {} layers, hidden size {}, vocabulary {}", info.model_name, model.architecture,
            model.num_layers, model.hidden_size, model.vocab_size);
  if (ranks > 1) {
    log::info("{}", describe(chosen.parallel));
    std::string layers;
    for (size_t stage = 0; stage + 1 < chosen.stage_begins.size(); ++stage) {
      const int32_t begin = chosen.stage_begins[stage], end = chosen.stage_begins[stage + 1];
      const auto full =
          std::count(model.layer_types.begin() + begin, model.layer_types.begin() + end, LayerKind::kFull);
      layers += fmt::format("{}[{}, {}) with {} full-attention layers", stage ? ", " : "", begin, end, full);
    }
    log::info("layers of the stages: {}; {} plans in flight", layers, chosen.plans_in_flight_max);
  }
  log::info("types: activations {}, KV {}, state {}{}", info.dtype, info.kv_dtype, info.state_dtype,
            model.quantised ? ", weights in FP8 blocks" : "");
  int64_t weight_bytes = 0;
  for (const MemoryUse& memory : memories) weight_bytes += memory.weight_bytes;
  log::info(
      "memory{}: weights {}, KV {} for {} tokens ({} pages of {}), state {} for {} sequences, activations {}; {} of "
      "the {} "
      "that the weights leave may be used",
      ranks > 1 ? fmt::format(" (a rank's KV, state and activations; weights of the {} ranks here)",
                              ranks / chosen.parallel.nodes)
                : "",
      human_bytes(weight_bytes), human_bytes(budget.page_bytes_total), budget.pages * info.page_size, budget.pages,
      info.page_size, human_bytes(budget.slot_bytes_total), budget.slots, human_bytes(budget.arena_bytes),
      chosen.memory_fraction, human_bytes(memories.front().left_bytes()));
  log::info("steps: {} prefill tokens and {} sequences at most{}, context length {}", chosen.prefill_tokens_max,
            budget.slots, chosen.parallel.dp > 1 ? " in each dp group" : "", info.context_length);
  if (!chosen.graph_rows.empty()) {
    log::info("decode steps are CUDA graphs for {} sequences", fmt::join(chosen.graph_rows, ", "));
  }
  if (info.eos_ids.empty()) log::warn("the checkpoint names no end-of-sequence id: only lengths and stops end a text");
}

Status load(const EngineOptions& options, const EngineConfiguration& chosen, Startup& startup) {
  HYLAS_ASSIGN(LoadedRanks loaded, load_ranks(options, chosen, startup.cluster.get()));
  HYLAS_ASSIGN(MemoryBudget budget, divide_memory(chosen, loaded));
  startup.ranks = std::move(loaded.ranks);
  if (startup.cluster) {
    const Capacity agreed = startup.cluster->agree({budget.pages, budget.slots});
    budget.pages = agreed.pages;
    budget.slots = agreed.slots;
  }
  HYLAS_TRY(allocate_ranks(startup.ranks, budget, options.device == "cuda"));
  startup.info = make_info(options, chosen, budget);
  startup.scheduler = make_scheduler_options(options, chosen, budget);
  log_choices(startup.info, chosen, budget, loaded.memories);
  log_gpu_kernels(options, chosen.model);
  return {};
}

}  // namespace

Result<Startup> start_up(const EngineOptions& options) {
  HYLAS_ASSIGN(ModelConfig model, parse_model_config(options.model_path));
  HYLAS_ASSIGN(GenerationConfig generation, parse_generation_config(directory_of(options.model_path)));
  HYLAS_ASSIGN(EngineConfiguration chosen, configure(options, model, generation));
  if (chosen.parallel.tp > 1 && ranks_share_gpus(options, chosen.parallel.world())) chosen.graph_rows.clear();
  HYLAS_ASSIGN(const ClusterOptions nodes, cluster_options(options, directory_of(options.model_path)));
  Startup startup;
  if (options.role != InstanceRole::kWhole) {
    HYLAS_ASSIGN(startup.fingerprint, model_fingerprint(options, directory_of(options.model_path)));
  }
  if (chosen.parallel.nodes > 1) {
    HYLAS_ASSIGN(startup.cluster, Cluster::join(nodes));
  }
  const Status loaded = load(options, chosen, startup);
  if (loaded.ok()) return startup;
  if (startup.cluster) startup.cluster->give_up(loaded.error());
  return loaded.error();
}

}  // namespace hylas
