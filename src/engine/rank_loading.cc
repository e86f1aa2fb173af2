#include "engine/rank_loading.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <thread>
#include <utility>

#include "base/progress.h"
#include "comm/device_comms.h"
#include "comm/node_pipe.h"
#include "engine/gpu_kernels.h"
#include "model/manifest.h"
#include "model/shard_bytes.h"
#include "weights/checkpoint_source.h"
#include "weights/dummy_source.h"

namespace hylas {
namespace {

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

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

// What is stored is read while it is copied to the GPUs, and made-up weights are there in no time.
std::unique_ptr<Progress> show_placing(const EngineConfiguration& chosen, int32_t first,
                                       std::span<const std::unique_ptr<WeightSource>> sources) {
  int64_t bytes = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    bytes += shard_bytes(chosen.model, chosen.decoder_of(first + static_cast<int32_t>(i)));
  }
  auto progress = std::make_unique<Progress>("Loading weights", bytes);
  for (const auto& source : sources) source->on_taken([&bar = *progress](size_t taken) { bar.add(taken); });
  return progress;
}

void prefetch(const LoadedRanks& loaded) {
  int64_t bytes = 0;
  for (const MemoryUse& memory : loaded.memories) bytes += memory.weight_bytes;
  Progress progress("Loading weights", bytes);
  for (const std::unique_ptr<Rank>& rank : loaded.ranks) {
    size_t shown = 0;
    rank->weights().prefetch(
        [&](size_t done_bytes, size_t) { progress.add(done_bytes - std::exchange(shown, done_bytes)); });
  }
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

// `place`: of its memory; the GPU's index, or 0.
Result<std::unique_ptr<Ops>> make_ops(const EngineOptions& options, const EngineConfiguration& chosen, int32_t place,
                                      int32_t threads) {
  if (options.device == "cuda") return make_cuda_ops(cuda_ops_options(options, chosen, place));
  return make_cpu_ops({.threads = threads, .isa = options.isa.c_str()});
}

// body(i) for every rank; `beside`: each in a thread of its own. Answers the first error.
Status for_ranks(size_t count, bool beside, const std::function<Status(size_t)>& body) {
  std::vector<Status> statuses(count);
  if (beside) {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < count; ++i) threads.emplace_back([&, i] { statuses[i] = body(i); });
  } else {
    for (size_t i = 0; i < count; ++i) HYLAS_TRY(body(i));
  }
  for (const Status& status : statuses) HYLAS_TRY(status);
  return {};
}

// The operators of every rank, and with them its memory. What is free is read when all of a memory's have their
// workspace.
Result<std::vector<std::unique_ptr<Ops>>> make_all_ops(const EngineOptions& options, const EngineConfiguration& chosen,
                                                       LoadedRanks& loaded) {
  const int32_t count = chosen.parallel.world() / chosen.parallel.nodes;
  const int32_t cores = std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
  const int32_t threads =
      count == 1 ? options.threads : std::max(1, (options.threads ? options.threads : cores) / count);
  std::vector<int32_t> places(count, 0);
  if (options.device == "cuda") {
    if (count > 1) cuda_load_all_kernels();
    HYLAS_ASSIGN(places, choose_gpus(options, count, cuda_device_count()));
  }
  std::vector<int32_t> distinct = places;
  std::ranges::sort(distinct);
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  loaded.memories.resize(distinct.size());
  std::vector<std::unique_ptr<Ops>> all;
  for (const int32_t place : places) {
    HYLAS_ASSIGN(std::unique_ptr<Ops> ops, make_ops(options, chosen, place, threads));
    const auto memory = static_cast<int32_t>(std::ranges::lower_bound(distinct, place) - distinct.begin());
    loaded.memory_of.push_back(memory);
    loaded.memories[memory].free_bytes = static_cast<int64_t>(ops->device().bytes_free());
    ++loaded.memories[memory].ranks;
    all.push_back(std::move(ops));
  }
  return all;
}

// Weights of each memory's ranks.
std::vector<int64_t> weight_bytes_of(const EngineConfiguration& chosen, int32_t first, const LoadedRanks& loaded) {
  std::vector<int64_t> bytes(loaded.memories.size(), 0);
  for (size_t i = 0; i < loaded.memory_of.size(); ++i) {
    bytes[loaded.memory_of[i]] += shard_bytes(chosen.model, chosen.decoder_of(first + static_cast<int32_t>(i)));
  }
  return bytes;
}

}  // namespace

Result<std::vector<int32_t>> choose_gpus(const EngineOptions& options, int32_t ranks, int32_t gpus) {
  std::vector<int32_t> chosen(ranks);
  std::iota(chosen.begin(), chosen.end(), options.base_gpu_id);
  if (options.ranks_share_gpu && gpus > 0) {
    for (int32_t& gpu : chosen) gpu %= gpus;
  }
  // Where there are none at all, the driver's own reason is the better one.
  if (gpus > 0 && chosen.back() >= gpus) {
    return error(ErrorCode::kUnsupported,
                 "{} ranks on this node take GPUs {} to {}, and {} can be seen here: lower --tp-size, --pp-size or "
                 "--base-gpu-id (CUDA_VISIBLE_DEVICES hides GPUs)",
                 ranks, chosen.front(), chosen.back(), gpus);
  }
  return chosen;
}

bool ranks_share_gpus(const EngineOptions& options, int32_t ranks) {
  return options.device == "cuda" && options.ranks_share_gpu && ranks > cuda_device_count();
}

Status check_weights_fit(std::span<const MemoryUse> memories, std::span<const int64_t> weight_bytes, int64_t gpu_bytes,
                         int64_t workspace_bytes) {
  for (size_t m = 0; m < memories.size(); ++m) {
    if (weight_bytes[m] <= memories[m].free_bytes) continue;
    const std::string ranks = memories[m].ranks == 1 ? "a rank" : fmt::format("{} ranks", memories[m].ranks);
    return error(ErrorCode::kUnsupported,
                 "the weights of {} are {:.1f} GiB, and {:.1f} of its GPU's {:.1f} GiB are free (a rank's kernels have "
                 "taken {:.1f} for workspace, less with a lower --chunked-prefill-size): share the model among more "
                 "GPUs (--tp-size, --pp-size)",
                 ranks, gib(weight_bytes[m]), gib(memories[m].free_bytes), gib(gpu_bytes), gib(workspace_bytes));
  }
  return {};
}

Status check_dummy_weights_fit(const MemoryUse& memory, int64_t weight_bytes) {
  if (weight_bytes <= memory.free_bytes) return {};
  return error(
      ErrorCode::kUnsupported,
      "--load-format dummy would make {:.1f} GiB of weights, and {:.1f} GiB of memory are free: take a smaller "
      "model (hylas plan and hylas bench simulate need no weights)",
      gib(weight_bytes), gib(memory.free_bytes));
}

Result<LoadedRanks> load_ranks(const EngineOptions& options, const EngineConfiguration& chosen, Cluster* cluster) {
  LoadedRanks loaded;
  const bool cuda = options.device == "cuda";
  HYLAS_ASSIGN(std::vector<std::unique_ptr<Ops>> ops, make_all_ops(options, chosen, loaded));
  const size_t count = ops.size();
  const int32_t first = options.node_rank * static_cast<int32_t>(count);
  std::vector<RankComms> comms = make_comms(chosen.parallel, options.node_rank, cluster);
  if (cuda && chosen.parallel.world() > 1) {
    std::vector<Device*> devices;
    for (const std::unique_ptr<Ops>& one : ops) devices.push_back(&one->device());
    HYLAS_TRY(on_devices(comms, devices));
  }
  HYLAS_ASSIGN(auto sources, open_weights(options, chosen.model, static_cast<int32_t>(count)));
  loaded.ranks.resize(count);
  // What the FP8 kernels for experts want; gpu_kernels.h says whether they are chosen.
  const bool experts_together = cuda && cuda_ops_options(options, chosen, 0).fp8.experts;
  std::unique_ptr<Progress> progress;
  const std::vector<int64_t> weight_bytes = weight_bytes_of(chosen, first, loaded);
  if (cuda) {
    const auto gpu_bytes = static_cast<int64_t>(ops.front()->device().bytes_total());
    HYLAS_TRY(
        check_weights_fit(loaded.memories, weight_bytes, gpu_bytes, gpu_workspace_bytes(options, chosen, gpu_bytes)));
    progress = show_placing(chosen, first, sources);
  } else if (options.load_format == "dummy") {
    HYLAS_TRY(check_dummy_weights_fit(loaded.memories.front(), weight_bytes.front()));
  }
  HYLAS_TRY(for_ranks(count, cuda, [&](size_t i) -> Status {
    if (cuda) sources[i]->place_on(ops[i]->device(), experts_together);
    const RankOptions rank_options{chosen.model, chosen.decoder_of(first + static_cast<int32_t>(i)), chosen.limits,
                                   chosen.vocab_tokens, chosen.graph_rows};
    HYLAS_ASSIGN(loaded.ranks[i],
                 Rank::load(rank_options, std::move(ops[i]), std::move(sources[i]), std::move(comms[i])));
    return {};
  }));
  for (size_t i = 0; i < count; ++i) {
    loaded.memories[loaded.memory_of[i]].weight_bytes += static_cast<int64_t>(loaded.ranks[i]->weights().bytes_used());
  }
  if (progress) {
    for (const std::unique_ptr<Rank>& rank : loaded.ranks) rank->weights().on_taken({});
  } else {
    prefetch(loaded);
  }
  return loaded;
}

Result<MemoryBudget> divide_memory(const EngineConfiguration& chosen, const LoadedRanks& loaded) {
  MemoryBudget least;
  for (size_t i = 0; i < loaded.ranks.size(); ++i) {
    const Rank& rank = *loaded.ranks[i];
    // Pages of a mapped file count as free memory even when they are in use: the weights come off what was free before.
    const MemoryUse& memory = loaded.memories[loaded.memory_of[i]];
    const auto arena_bytes = static_cast<int64_t>(rank.arena_bytes());
    HYLAS_ASSIGN(const MemoryBudget budget,
                 plan_memory(chosen.budget(memory.left_bytes() / memory.ranks, arena_bytes, rank.layout())));
    if (i == 0) least = budget;
    least.pages = std::min(least.pages, budget.pages);
    least.slots = std::min(least.slots, budget.slots);
    least.page_bytes_total = std::max(least.page_bytes_total, budget.page_bytes_total);
    least.slot_bytes_total = std::max(least.slot_bytes_total, budget.slot_bytes_total);
    least.arena_bytes = std::max(least.arena_bytes, budget.arena_bytes);
  }
  return least;
}

Status allocate_ranks(std::span<const std::unique_ptr<Rank>> ranks, const MemoryBudget& budget, bool on_gpus) {
  HYLAS_TRY(for_ranks(ranks.size(), on_gpus, [&](size_t i) { return ranks[i]->allocate(budget.pages, budget.slots); }));
  return for_ranks(ranks.size(), on_gpus, [&](size_t i) {
    ranks[i]->record_graphs();
    return Status();
  });
}

}  // namespace hylas
