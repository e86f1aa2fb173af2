// hylas plan: what a model needs and what fits, from its config.json alone.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "app/commands.h"
#include "app/model_path.h"
#include "app/options.h"
#include "base/progress.h"
#include "engine/configuration.h"
#include "model/manifest.h"
#include "tensor/device.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas plan --model qwen3.5-35b-a3b-fp8 --memory-gib 64 --context-length 32768
  hylas plan --model-path ~/models/Qwen3.5-4B --kv-cache-dtype fp8_e4m3 --json
Weights are those of the text model and the MTP head. The largest batch is of sequences of the whole context length.)";

struct PlanOptions {
  Options common;
  std::string model;
  double memory_gib = 0;
  bool json = false;
};

struct Plan {
  ModelConfig model;
  DecoderOptions types;
  int32_t context_length = 0;
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t state_bytes_per_sequence = 0;
  int64_t memory_bytes = 0;
  double memory_fraction = 0;
  int64_t cache_bytes = 0;    // what is left for KV and states
  int64_t largest_batch = 0;  // sequences of context_length tokens
};

// Of all tensors as the family stores them; FP8 matrices have one bf16 scale for each block of 128 x 128.
int64_t weight_bytes(const ModelConfig& model) {
  int64_t bytes = 0;
  for (const TensorSpec& spec : manifest(model)) {
    bytes += spec.elements() * int64_t(dtype_bytes(spec.dtype));
    if (spec.dtype != DType::kF8E4M3) continue;
    int64_t rows = spec.shape[spec.shape.size() - 2], columns = spec.shape.back();
    int64_t matrices = spec.elements() / (rows * columns);
    bytes += matrices * ((rows + 127) / 128) * ((columns + 127) / 128) * 2;
  }
  return bytes;
}

Result<Plan> make_plan(const PlanOptions& options) {
  EngineOptions engine = options.common.engine;
  HYLAS_ASSIGN(engine.model_path, options.model.empty() ? Result(engine.model_path) : find_model(options.model));
  Plan plan;
  HYLAS_ASSIGN(plan.model, parse_model_config(engine.model_path));
  HYLAS_ASSIGN(EngineConfiguration chosen, configure(engine, plan.model, GenerationConfig{}));
  plan.types = chosen.decoder;
  plan.context_length = chosen.context_length;
  plan.weight_bytes = weight_bytes(plan.model);
  StateLayout layout = state_layout(plan.model, chosen.decoder);
  plan.kv_bytes_per_token = layout.bytes_per_token();
  plan.state_bytes_per_sequence = layout.bytes_per_sequence();
  plan.memory_bytes =
      options.memory_gib > 0 ? int64_t(options.memory_gib * double(1 << 30)) : int64_t(make_cpu_device()->bytes_free());
  plan.memory_fraction = chosen.memory_fraction;
  int64_t left = std::max<int64_t>(plan.memory_bytes - plan.weight_bytes, 0);
  plan.cache_bytes = int64_t(double(left) * plan.memory_fraction);
  int32_t page = chosen.limits.page_size;
  int64_t pages = (int64_t(plan.context_length) + page - 1) / page;
  plan.largest_batch = plan.cache_bytes / (pages * page * plan.kv_bytes_per_token + plan.state_bytes_per_sequence);
  return plan;
}

boost::json::object to_json(const Plan& plan) {
  auto full = std::ranges::count(plan.model.layer_types, LayerKind::kFull);
  return {{"architecture", plan.model.architecture},
          {"layers", plan.model.num_layers},
          {"full_attention_layers", full},
          {"experts", plan.model.experts},
          {"dtype", dtype_name(plan.types.act)},
          {"kv_cache_dtype", dtype_name(plan.types.kv)},
          {"mamba_ssm_dtype", dtype_name(plan.types.state)},
          {"ranks", 1},
          {"weight_bytes", plan.weight_bytes},
          {"kv_bytes_per_token", plan.kv_bytes_per_token},
          {"state_bytes_per_sequence", plan.state_bytes_per_sequence},
          {"memory_bytes", plan.memory_bytes},
          {"memory_fraction", plan.memory_fraction},
          {"cache_bytes", plan.cache_bytes},
          {"context_length", plan.context_length},
          {"largest_batch", plan.largest_batch}};
}

void print(const Plan& plan) {
  auto full = std::ranges::count(plan.model.layer_types, LayerKind::kFull);
  fmt::print("{}: {} layers, {} of them full attention", plan.model.architecture, plan.model.num_layers, full);
  if (plan.model.experts > 0) fmt::print(", {} experts", plan.model.experts);
  fmt::print("\n  weights              {}\n", human_bytes(double(plan.weight_bytes)));
  fmt::print("  KV for each token    {} ({})\n", human_bytes(double(plan.kv_bytes_per_token)),
             dtype_name(plan.types.kv));
  fmt::print("  state per sequence   {} ({})\n", human_bytes(double(plan.state_bytes_per_sequence)),
             dtype_name(plan.types.state));
  fmt::print("  memory               {}, of which {} for KV and states ({} of what the weights leave)\n",
             human_bytes(double(plan.memory_bytes)), human_bytes(double(plan.cache_bytes)), plan.memory_fraction);
  fmt::print("  largest batch        {} sequences of {} tokens\n", plan.largest_batch, plan.context_length);
}

Status run_plan(const PlanOptions& options) {
  HYLAS_TRY(check_engine_options(options.common));
  HYLAS_ASSIGN(Plan plan, make_plan(options));
  if (options.json) {
    fmt::print("{}\n", boost::json::serialize(to_json(plan)));
  } else {
    print(plan);
  }
  return {};
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand("plan", "What a model needs and what fits, without its weights");
  add_engine_options(*command, options->common);
  command->remove_option(command->get_option("--model-path"));
  CLI::Option_group* which = command->add_option_group("Model (one of)");
  which->add_option("--model-path", options->common.engine.model_path, "Folder with a config.json, or the file");
  which->add_option("--model", options->model, "A released model, such as qwen3.5-4b: see models/configs");
  which->require_option(1);
  command->add_option("--memory-gib", options->memory_gib, "Memory to plan for; 0: what is free here")
      ->check(CLI::NonNegativeNumber)
      ->group("Plan");
  command->add_flag("--json", options->json, "Machine-readable")->group("Plan");
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = run_plan(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
