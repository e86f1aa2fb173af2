#include "engine/startup.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <utility>

#include "base/log.h"
#include "base/progress.h"
#include "model/manifest.h"
#include "weights/checkpoint_source.h"
#include "weights/dummy_source.h"

namespace hylas {
namespace {

// Plans in flight for one rank: one runs while the next is planned.
constexpr int32_t kPlansInFlight = 2;

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

Result<std::unique_ptr<WeightSource>> open_weights(const EngineOptions& options, const ModelConfig& model) {
  if (options.load_format == "dummy") return std::unique_ptr<WeightSource>(new DummySource(manifest(model)));
  HYLAS_ASSIGN(std::shared_ptr<const Checkpoint> checkpoint, Checkpoint::open(options.model_path));
  HYLAS_TRY(check_complete(*checkpoint, model));
  return std::unique_ptr<WeightSource>(new CheckpointSource(std::move(checkpoint)));
}

void prefetch(WeightSource& source) {
  Progress progress("Loading weights", source.bytes_used());
  size_t shown = 0;
  source.prefetch([&](size_t done_bytes, size_t) { progress.add(done_bytes - std::exchange(shown, done_bytes)); });
}

EngineInfo make_info(const EngineOptions& options, const EngineConfiguration& chosen, const MemoryBudget& budget) {
  EngineInfo info;
  info.model_name = name_of(options.model_path);
  info.context_length = chosen.context_length;
  info.vocab_size = chosen.model.vocab_size;
  info.kv_tokens_max = budget.pages * chosen.limits.page_size;
  info.running_max = budget.slots;
  info.page_size = chosen.limits.page_size;
  info.dtype = dtype_name(chosen.decoder.act);
  info.kv_dtype = dtype_name(chosen.decoder.kv);
  info.state_dtype = dtype_name(chosen.decoder.state);
  info.eos_ids = chosen.eos_ids;
  return info;
}

SchedulerOptions make_scheduler_options(const EngineConfiguration& chosen, const MemoryBudget& budget) {
  SchedulerOptions scheduler;
  scheduler.pages = budget.pages;
  scheduler.page_size = chosen.limits.page_size;
  scheduler.slots = budget.slots;
  scheduler.context_length = chosen.context_length;
  scheduler.vocab_size = chosen.model.vocab_size;
  scheduler.prefill_tokens_max = chosen.prefill_tokens_max;
  scheduler.plans_in_flight_max = kPlansInFlight;
  scheduler.eos_ids = chosen.eos_ids;
  scheduler.seed = std::random_device{}();
  return scheduler;
}

void log_choices(const EngineInfo& info, const EngineConfiguration& chosen, const MemoryBudget& budget,
                 int64_t weight_bytes, int64_t free_bytes) {
  const ModelConfig& model = chosen.model;
  log::info("model {}: {}, {} layers, hidden size {}, vocabulary {}", info.model_name, model.architecture,
            model.num_layers, model.hidden_size, model.vocab_size);
  log::info("types: activations {}, KV {}, state {}{}", info.dtype, info.kv_dtype, info.state_dtype,
            model.quantised ? ", weights in FP8 blocks" : "");
  log::info(
      "memory: weights {}, KV {} for {} tokens ({} pages of {}), state {} for {} sequences, activations {}; {} of {} "
      "free bytes may be used",
      human_bytes(weight_bytes), human_bytes(budget.page_bytes_total), info.kv_tokens_max, budget.pages, info.page_size,
      human_bytes(budget.slot_bytes_total), budget.slots, human_bytes(budget.arena_bytes), chosen.memory_fraction,
      human_bytes(free_bytes));
  log::info("steps: {} prefill tokens and {} sequences at most, context length {}", chosen.prefill_tokens_max,
            budget.slots, info.context_length);
  if (info.eos_ids.empty()) log::warn("the checkpoint names no end-of-sequence id: only lengths and stops end a text");
}

}  // namespace

Result<Startup> start_up(const EngineOptions& options) {
  HYLAS_ASSIGN(ModelConfig model, parse_model_config(options.model_path));
  HYLAS_ASSIGN(GenerationConfig generation, parse_generation_config(directory_of(options.model_path)));
  HYLAS_ASSIGN(EngineConfiguration chosen, configure(options, model, generation));
  const RankOptions rank_options{chosen.model, chosen.decoder, chosen.limits, chosen.vocab_tokens};

  HYLAS_ASSIGN(
      std::unique_ptr<Ops> ops,
      make_cpu_ops({.threads = options.threads, .isa = options.isa.c_str()}));
  // Pages of a mapped file count as free memory even when they are in use: so take the weights off what was free
  // before.
  const auto free_before = static_cast<int64_t>(ops->device().bytes_free());
  HYLAS_ASSIGN(std::unique_ptr<WeightSource> source, open_weights(options, model));
  Startup startup;
  HYLAS_ASSIGN(startup.rank, Rank::load(rank_options, std::move(ops), std::move(source)));
  Rank& rank = *startup.rank;
  prefetch(rank.weights());

  const auto weight_bytes = static_cast<int64_t>(rank.weights().bytes_used());
  const int64_t free_bytes = std::max<int64_t>(free_before - weight_bytes, 0);
  const auto arena_bytes = static_cast<int64_t>(rank.arena_bytes());
  HYLAS_ASSIGN(MemoryBudget budget, plan_memory(chosen.budget(free_bytes, arena_bytes, rank.layout())));
  HYLAS_TRY(rank.allocate(budget.pages, budget.slots));
  startup.info = make_info(options, chosen, budget);
  startup.scheduler = make_scheduler_options(chosen, budget);
  log_choices(startup.info, chosen, budget, weight_bytes, free_bytes);
  return startup;
}

}  // namespace hylas
