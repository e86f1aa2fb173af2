#include "engine/startup.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <span>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/progress.h"
#include "comm/device_comms.h"
#include "comm/node_pipe.h"
#include "engine/node_settings.h"
#include "model/manifest.h"
#include "ops/cuda_ops.h"
#include "weights/checkpoint_source.h"
#include "weights/dummy_source.h"

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

// A source for every rank; they share what is stored.
Result<std::vector<std::unique_ptr<WeightSource>>> open_weights(const EngineOptions& options, const ModelConfig& model,
                                                                int32_t ranks) {
  std::vector<std::unique_ptr<WeightSource>> sources;
  if (options.load_format == "dummy") {
    const std::vector<TensorSpec> specs = manifest(model);
    for (int32_t rank = 0; rank < ranks; ++rank) sources.push_back(std::make_unique<DummySource>(specs));
    return sources;
  }
  HYLAS_ASSIGN(std::shared_ptr<const Checkpoint> checkpoint, Checkpoint::open(options.model_path));
  HYLAS_TRY(check_complete(*checkpoint, model));
  for (int32_t rank = 0; rank < ranks; ++rank) sources.push_back(std::make_unique<CheckpointSource>(checkpoint));
  return sources;
}

void prefetch(std::span<const std::unique_ptr<Rank>> ranks, int64_t bytes) {
  Progress progress("Loading weights", bytes);
  for (const std::unique_ptr<Rank>& rank : ranks) {
    size_t shown = 0;
    rank->weights().prefetch(
        [&](size_t done_bytes, size_t) { progress.add(done_bytes - std::exchange(shown, done_bytes)); });
  }
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

// Of all ranks of this node together.
struct MemoryUse {
  int64_t free_bytes = 0;  // before anything
  int64_t weight_bytes = 0;
};

// Which kernels multiply FP8 weights on a GPU.
void log_kernels(const EngineOptions& options, const ModelConfig& model) {
  if (options.device != "cuda" || !model.quantised) return;
  const auto of = [](const std::string& backend) {
    return backend == "deep_gemm" ? "deep_gemm (activations in FP8) for many rows, hylas for few"
                                  : "hylas (activations in bf16)";
  };
  log::info("kernels of FP8 weights: matrices {}; experts {}", of(options.fp8_gemm_backend),
            of(options.moe_runner_backend));
  if (options.fp8_gemm_backend == "deep_gemm" || options.moe_runner_backend == "deep_gemm") {
    log::warn("deep_gemm has not been proven on a GPU yet: scripts/gpu_test.sh fp8 does that; `auto` is proven");
  }
}

void log_choices(const EngineInfo& info, const EngineConfiguration& chosen, const MemoryBudget& budget,
                 const MemoryUse& use) {
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
  log::info(
      "memory{}: weights {}, KV {} for {} tokens ({} pages of {}), state {} for {} sequences, activations {}; {} of {} "
      "free bytes may be used",
      ranks > 1 ? fmt::format(" (a rank's KV, state and activations; weights of the {} ranks here)",
                              ranks / chosen.parallel.nodes)
                : "",
      human_bytes(use.weight_bytes), human_bytes(budget.page_bytes_total), budget.pages * info.page_size, budget.pages,
      info.page_size, human_bytes(budget.slot_bytes_total), budget.slots, human_bytes(budget.arena_bytes),
      chosen.memory_fraction, human_bytes(use.free_bytes - use.weight_bytes));
  log::info("steps: {} prefill tokens and {} sequences at most{}, context length {}", chosen.prefill_tokens_max,
            budget.slots, chosen.parallel.dp > 1 ? " in each dp group" : "", info.context_length);
  if (!chosen.graph_rows.empty()) {
    log::info("decode steps are CUDA graphs for {} sequences", fmt::join(chosen.graph_rows, ", "));
  }
  if (info.eos_ids.empty()) log::warn("the checkpoint names no end-of-sequence id: only lengths and stops end a text");
}

// The handles of this node's ranks, by rank.
std::vector<RankComms> make_comms(const ParallelSizes& sizes, int32_t node, Cluster* cluster) {
  if (!cluster) return make_local_comms_of_ranks(sizes);
  const int32_t stages = sizes.pp / sizes.nodes;
  std::vector<RankComms> comms = make_local_stage_comms(sizes, node * stages, (node + 1) * stages);
  const NodeGone on_gone = [cluster](int32_t gone, const Error& why) { cluster->lose(gone, why.message); };
  for (int32_t tp_rank = 0; tp_rank < sizes.tp; ++tp_rank) {
    std::vector<std::unique_ptr<Pipe>> pipes = make_node_pipes(sizes, node, tp_rank, cluster->fabric(), on_gone);
    for (int32_t stage = 0; stage < stages; ++stage) comms[stage * sizes.tp + tp_rank].pipe = std::move(pipes[stage]);
  }
  return comms;
}

CudaOpsOptions cuda_ops_options(const EngineOptions& options) {
  CudaOpsOptions cuda;
  cuda.fp8.linear = options.fp8_gemm_backend == "deep_gemm";
  cuda.fp8.experts = options.moe_runner_backend == "deep_gemm";
  if (cuda.fp8.experts) cuda.workspace_bytes = kCudaFp8WorkspaceBytes;
  return cuda;
}

Result<std::unique_ptr<Ops>> make_ops(const EngineOptions& options, int32_t threads) {
  if (options.device == "cuda") return make_cuda_ops(cuda_ops_options(options));
  return make_cpu_ops({.threads = threads, .isa = options.isa.c_str()});
}

// This node's ranks with their weights, but without memory for sequences.
Result<std::vector<std::unique_ptr<Rank>>> load_ranks(const EngineOptions& options, const EngineConfiguration& chosen,
                                                      Cluster* cluster, MemoryUse& use) {
  const int32_t count = chosen.parallel.world() / chosen.parallel.nodes, first = options.node_rank * count;
  const int32_t cores = std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
  const int32_t threads =
      count == 1 ? options.threads : std::max(1, (options.threads ? options.threads : cores) / count);
  std::vector<RankComms> comms = make_comms(chosen.parallel, options.node_rank, cluster);
  HYLAS_ASSIGN(auto sources, open_weights(options, chosen.model, count));
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int32_t i = 0; i < count; ++i) {
    HYLAS_ASSIGN(std::unique_ptr<Ops> ops, make_ops(options, threads));
    if (options.device == "cuda") sources[i]->place_on(ops->device(), options.moe_runner_backend == "deep_gemm");
    // Pages of a mapped file count as free memory even when they are in use: so take the weights off what was free
    // before.
    if (i == 0) use.free_bytes = static_cast<int64_t>(ops->device().bytes_free());
    const RankOptions rank_options{chosen.model, chosen.decoder_of(first + i), chosen.limits, chosen.vocab_tokens,
                                   chosen.graph_rows};
    if (options.device == "cuda" && count > 1) comms[i] = on_device(std::move(comms[i]), ops->device());
    HYLAS_ASSIGN(std::unique_ptr<Rank> rank,
                 Rank::load(rank_options, std::move(ops), std::move(sources[i]), std::move(comms[i])));
    use.weight_bytes += static_cast<int64_t>(rank->weights().bytes_used());
    ranks.push_back(std::move(rank));
  }
  return ranks;
}

// Pages and slots have the same ids on all ranks of a group, so there are as many as the tightest rank has. The ranks
// share this machine's memory.
Result<MemoryBudget> divide_memory(const EngineConfiguration& chosen, std::span<const std::unique_ptr<Rank>> ranks,
                                   const MemoryUse& use) {
  const int64_t share = std::max<int64_t>(use.free_bytes - use.weight_bytes, 0) / static_cast<int64_t>(ranks.size());
  MemoryBudget least;
  for (const std::unique_ptr<Rank>& rank : ranks) {
    const auto arena_bytes = static_cast<int64_t>(rank->arena_bytes());
    HYLAS_ASSIGN(const MemoryBudget budget, plan_memory(chosen.budget(share, arena_bytes, rank->layout())));
    if (rank == ranks.front()) least = budget;
    least.pages = std::min(least.pages, budget.pages);
    least.slots = std::min(least.slots, budget.slots);
    least.page_bytes_total = std::max(least.page_bytes_total, budget.page_bytes_total);
    least.slot_bytes_total = std::max(least.slot_bytes_total, budget.slot_bytes_total);
    least.arena_bytes = std::max(least.arena_bytes, budget.arena_bytes);
  }
  return least;
}

Status load(const EngineOptions& options, const EngineConfiguration& chosen, Startup& startup) {
  MemoryUse use;
  HYLAS_ASSIGN(startup.ranks, load_ranks(options, chosen, startup.cluster.get(), use));
  prefetch(startup.ranks, use.weight_bytes);
  HYLAS_ASSIGN(MemoryBudget budget, divide_memory(chosen, startup.ranks, use));
  if (startup.cluster) {
    const Capacity agreed = startup.cluster->agree({budget.pages, budget.slots});
    budget.pages = agreed.pages;
    budget.slots = agreed.slots;
  }
  for (const std::unique_ptr<Rank>& rank : startup.ranks) HYLAS_TRY(rank->allocate(budget.pages, budget.slots));
  startup.info = make_info(options, chosen, budget);
  startup.scheduler = make_scheduler_options(options, chosen, budget);
  log_choices(startup.info, chosen, budget, use);
  log_kernels(options, chosen.model);
  return {};
}

}  // namespace

Result<Startup> start_up(const EngineOptions& options) {
  HYLAS_ASSIGN(ModelConfig model, parse_model_config(options.model_path));
  HYLAS_ASSIGN(GenerationConfig generation, parse_generation_config(directory_of(options.model_path)));
  HYLAS_ASSIGN(EngineConfiguration chosen, configure(options, model, generation));
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
