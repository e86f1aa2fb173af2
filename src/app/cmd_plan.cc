// hylas plan: topology, partition, memory and traffic of a layout, from config.json alone.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <memory>
#include <optional>

#include "app/commands.h"
#include "app/disaggregation_options.h"
#include "app/layer_costs.h"
#include "app/model_path.h"
#include "app/options.h"
#include "base/progress.h"
#include "engine/gpu_kernels.h"
#include "engine/layout_name.h"
#include "engine/layout_plan.h"
#include "tensor/device.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas plan --model qwen3.5-35b-a3b-fp8 --gpu-memory 80GB --context-length 32768
  hylas plan --model qwen3.5-397b-a17b-fp8 --gpu-memory 141GB --tp-size 2 --pp-size 4 --kv-cache-dtype fp8_e4m3
  hylas plan --model-path ~/models/Qwen3.5-4B --kv-cache-dtype fp8_e4m3 --json
  hylas plan --model qwen3.5-4b --pp-size 4 --measure
It takes the flags of `hylas serve`, so that a whole command line can be tried. docs/plan.md explains the output.)";

// Prompt tokens of a measured step at most: enough for every kernel to be at its usual speed.
constexpr int32_t kMeasuredTokensMax = 2048;

struct PlanOptions {
  Options common;
  std::string model;
  std::string gpu_memory;
  bool json = false;
  bool measure = false;
};

struct Plan {
  EngineConfiguration chosen;
  LayoutPlan layout;
  RankMemory memory;
  int32_t rows_max = 0;                    // --max-running-requests; 0: none given
  std::optional<PartitionCosts> measured;  // us of a step of `measured_tokens` tokens
  int32_t measured_tokens = 0;

  int64_t largest_batch(int64_t tokens) const {
    const int64_t fit = layout.batch(tokens);
    return rows_max > 0 ? std::min<int64_t>(fit, rows_max) : fit;
  }
};

Result<Plan> make_plan(const PlanOptions& options) {
  EngineOptions engine = options.common.engine;
  HYLAS_ASSIGN(engine.model_path, options.model.empty() ? Result(engine.model_path) : find_model(options.model));
  Plan plan;
  plan.rows_max = engine.max_running_requests;
  if (!options.gpu_memory.empty() && engine.mem_fraction_static == 0) engine.mem_fraction_static = kGpuMemoryFraction;
  HYLAS_ASSIGN(const ModelConfig model, parse_model_config(engine.model_path));
  HYLAS_ASSIGN(plan.chosen, configure(engine, model, GenerationConfig{}));
  if (options.measure) {
    plan.measured_tokens =
        std::min({plan.chosen.prefill_tokens_max, kMeasuredTokensMax, plan.chosen.context_length - 1});
    HYLAS_ASSIGN(plan.measured, measure_costs(engine, model, plan.measured_tokens));
    if (engine.parallel.pp > 1 && engine.pp_layer_partition.empty()) {
      HYLAS_ASSIGN(plan.chosen.stage_begins, balance(*plan.measured, engine.parallel.pp));
    }
  }
  if (options.gpu_memory.empty()) {
    plan.memory.bytes = static_cast<int64_t>(make_cpu_device()->bytes_free()) / plan.chosen.parallel.world();
  } else {
    HYLAS_ASSIGN(plan.memory.bytes, parse_bytes("--gpu-memory", options.gpu_memory));
    plan.memory.workspace_bytes = gpu_workspace_bytes(engine, plan.chosen, plan.memory.bytes);
  }
  HYLAS_ASSIGN(plan.layout, plan_layout(plan.chosen, plan.memory, plan.measured.value_or(estimate_costs(model))));
  return plan;
}

int64_t full_layers(const ModelConfig& model) { return std::ranges::count(model.layer_types, LayerKind::kFull); }

int64_t most(const LayoutPlan& layout, int64_t StagePlan::* figure) {
  int64_t most = 0;
  for (const StagePlan& stage : layout.stages) most = std::max(most, stage.*figure);
  return most;
}

boost::json::object to_json(const StagePlan& stage) {
  return {{"layers", boost::json::array{stage.layer_begin, stage.layer_end}},
          {"full_attention_layers", stage.full_layers},
          {"cost_share", stage.cost_share},
          {"weight_bytes", stage.weight_bytes},
          {"kv_bytes_per_token", stage.kv_bytes_per_token},
          {"state_bytes_per_sequence", stage.state_bytes_per_sequence},
          {"cache_bytes", stage.cache_bytes},
          {"link_bytes_per_token",
           {{"stage", stage.link.stage},
            {"all_reduce", stage.link.all_reduce},
            {"gather", stage.link.gather},
            {"dispatch", stage.link.dispatch},
            {"combine", stage.link.combine}}}};
}

boost::json::object to_json(const Plan& plan) {
  const EngineConfiguration& chosen = plan.chosen;
  int64_t cache = plan.memory.bytes;
  boost::json::array stages;
  boost::json::value measured;  // null unless --measure
  if (plan.measured) {
    measured = {{"tokens", plan.measured_tokens},
                {"layers_us", boost::json::value_from(plan.measured->layers)},
                {"last_us", plan.measured->last}};
  }
  for (const StagePlan& stage : plan.layout.stages) {
    stages.push_back(to_json(stage));
    cache = std::min(cache, stage.cache_bytes);
  }
  return {{"architecture", chosen.model.architecture},
          {"layers", chosen.model.num_layers},
          {"full_attention_layers", full_layers(chosen.model)},
          {"experts", chosen.model.experts},
          {"dtype", dtype_name(chosen.decoder.act)},
          {"kv_cache_dtype", dtype_name(chosen.decoder.kv)},
          {"mamba_ssm_dtype", dtype_name(chosen.decoder.state)},
          {"ranks", chosen.parallel.world()},
          {"tp", chosen.parallel.tp},
          {"pp", chosen.parallel.pp},
          {"ep", chosen.parallel.ep},
          {"dp", chosen.parallel.dp},
          {"plans_in_flight", chosen.plans_in_flight_max},
          {"prefill_tokens", chosen.prefill_tokens_max * chosen.parallel.dp},
          {"weight_bytes", plan.layout.weight_bytes_total},
          {"kv_bytes_per_token", most(plan.layout, &StagePlan::kv_bytes_per_token)},
          {"state_bytes_per_sequence", most(plan.layout, &StagePlan::state_bytes_per_sequence)},
          {"memory_bytes", plan.memory.bytes},
          {"workspace_bytes", plan.memory.workspace_bytes},
          {"memory_fraction", chosen.memory_fraction},
          {"cache_bytes", cache},
          {"context_length", chosen.context_length},
          {"largest_batch", plan.largest_batch(chosen.context_length)},
          {"measured", measured},
          {"stages", stages}};
}

void print_stages(const Plan& plan) {
  fmt::print(
      "\nstage  layers    full attention   cost   of a rank: weights   KV of a token  state of a sequence  "
      "room for both\n");
  for (size_t s = 0; s < plan.layout.stages.size(); ++s) {
    const StagePlan& stage = plan.layout.stages[s];
    fmt::print("{:>5}  {:<9} {:>13} {:>7.1f}% {:>19} {:>15} {:>20} {:>14}\n", s,
               fmt::format("{}-{}", stage.layer_begin, stage.layer_end - 1), stage.full_layers, 100 * stage.cost_share,
               human_bytes(double(stage.weight_bytes)), human_bytes(double(stage.kv_bytes_per_token)),
               human_bytes(double(stage.state_bytes_per_sequence)), human_bytes(double(stage.cache_bytes)));
  }
}

std::string partition_text(const std::vector<int32_t>& stage_begins) {
  std::string text;
  for (size_t s = 0; s + 1 < stage_begins.size(); ++s) {
    text += fmt::format("{}{}", s ? "," : "", stage_begins[s + 1] - stage_begins[s]);
  }
  return text;
}

void print_measured(const Plan& plan) {
  fmt::print("\nmeasured, a step of {} prompt tokens on one rank:", plan.measured_tokens);
  const std::vector<LayerKind>& kinds = plan.chosen.model.layer_types;
  for (const LayerKind kind : {LayerKind::kLinear, LayerKind::kFull}) {
    const auto found = std::ranges::find(kinds, kind);
    if (found == kinds.end()) continue;
    fmt::print(" {:.2f} ms a {} layer,", 1e-3 * plan.measured->layers[found - kinds.begin()],
               kind == LayerKind::kFull ? "full attention" : "linear attention");
  }
  fmt::print(" {:.2f} ms embedding and head\n", 1e-3 * plan.measured->last);
  if (plan.chosen.parallel.pp > 1) fmt::print("--pp-layer-partition {}\n", partition_text(plan.chosen.stage_begins));
}

void print_links(const Plan& plan) {
  if (plan.chosen.parallel.world() == 1) return;
  fmt::print(
      "\nA rank sends for each token of its sequences:\n"
      "stage  to the next stage  all-reduce     gather  to experts  from experts\n");
  for (size_t s = 0; s < plan.layout.stages.size(); ++s) {
    const LinkBytes& link = plan.layout.stages[s].link;
    fmt::print("{:>5}  {:>17} {:>11} {:>10} {:>11} {:>13}\n", s, human_bytes(link.stage), human_bytes(link.all_reduce),
               human_bytes(link.gather), human_bytes(link.dispatch), human_bytes(link.combine));
  }
}

void print(const Plan& plan) {
  const EngineConfiguration& chosen = plan.chosen;
  const ModelConfig& model = chosen.model;
  fmt::print("{}: {} layers, {} of them full attention", model.architecture, model.num_layers, full_layers(model));
  if (model.experts > 0) fmt::print(", {} experts", model.experts);
  fmt::print("\nweights {}{}, KV in {}, states in {}, activations in {}\n",
             human_bytes(double(plan.layout.weight_bytes_total)), chosen.parallel.world() > 1 ? " on all ranks" : "",
             dtype_name(chosen.decoder.kv), dtype_name(chosen.decoder.state), dtype_name(chosen.decoder.act));
  fmt::print("{}\n", describe(chosen.parallel));
  print_stages(plan);
  if (plan.measured) print_measured(plan);
  print_links(plan);
  const std::string workspace =
      plan.memory.workspace_bytes > 0
          ? fmt::format(", {} of it the kernels' workspace", human_bytes(double(plan.memory.workspace_bytes)))
          : "";
  fmt::print("\n{} of memory a rank{}; of what the weights leave, {} is for KV and states\n",
             human_bytes(double(plan.memory.bytes)), workspace, chosen.memory_fraction);
  fmt::print("steps of {} prompt tokens, {} plans in flight\n", chosen.prefill_tokens_max * chosen.parallel.dp,
             chosen.plans_in_flight_max);
  for (const int32_t tokens : {kTypicalTokens, chosen.context_length}) {
    if (tokens == kTypicalTokens && tokens >= chosen.context_length) continue;
    fmt::print("largest batch: {} sequences of {} tokens{}\n", plan.largest_batch(tokens), tokens,
               plan.rows_max > 0 && plan.layout.batch(tokens) > plan.rows_max
                   ? fmt::format(" (--max-running-requests; {} fit)", plan.layout.batch(tokens))
                   : "");
  }
}

Status run_plan(const PlanOptions& options) {
  Options common = options.common;
  // Memory and partition do not depend on parts that only serving needs.
  if (common.refused) fmt::print(stderr, "hylas plan: {}; the plan is made without them\n", common.refused->message);
  common.refused.reset();
  HYLAS_TRY(check_engine_options(common));
  HYLAS_ASSIGN(const Plan plan, make_plan(options));
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
  CLI::App* command = app.add_subcommand("plan", "What a layout holds, what fits and what its links carry");
  options->common.log_level = "warn";  // of the small models that --measure runs
  add_engine_options(*command, options->common);
  add_server_options(*command, options->common);
  add_disaggregation_options(*command, options->common.engine);
  command->remove_option(command->get_option("--model-path"));
  CLI::Option_group* which = command->add_option_group("Model (one of)");
  which->add_option("--model-path", options->common.engine.model_path, "Folder with a config.json, or the file");
  which->add_option("--model", options->model, "A released model, such as qwen3.5-4b: see models/configs");
  which->require_option(1);
  command->add_option("--gpu-memory", options->gpu_memory, "Memory of a rank, such as 141GB; else what is free here")
      ->group("Plan");
  command->add_flag("--json", options->json, "Machine-readable")->group("Plan");
  command
      ->add_flag("--measure", options->measure,
                 "Run each kind of layer here with made-up weights and balance the stages by the time it takes")
      ->group("Plan");
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      const Status status = run_plan(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
