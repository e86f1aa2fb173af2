// hylas bench simulate: the scheduler over a roofline of GPUs, in virtual time.
#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <memory>
#include <utility>

#include "app/bench_commands.h"
#include "app/model_path.h"
#include "engine/layout_name.h"
#include "engine/simulated_layout.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas bench simulate --model qwen3.5-397b-a17b-fp8
  hylas bench simulate --model qwen3.5-35b-a3b-fp8 --gpu H200 --layout tp1,tp2,pp2 --max-concurrency 64 --json
The scheduler is the real one; what a step takes comes from the model's shapes and what our kernels were measured to
cost: docs/simulator.md.)";

struct SimulateOptions {
  std::string model, model_path;
  std::vector<std::string> gpus = {"H20", "H100", "H200"};
  std::vector<std::string> layouts = {"tp8", "pp4tp2", "pp8"};
  std::string partition;
  int32_t chunk = 16384;
  int32_t async_depth = 1;
  int32_t running_max = 256;
  bool dynamic = false, bound = false;
  int32_t num_prompts = 1024, input_len = 3500, output_len = 1, concurrency = 256;
  double request_rate = 0;
  uint64_t seed = 42;
  bool json = false;
};

struct Line {
  GpuKind gpu;
  std::string layout;
  int32_t ranks = 0;
  SimulatedRun run;

  double mean_ttft_s() const { return run.mean_ttft_us() * 1e-6; }
  double ttft_s(double quantile) const {
    std::vector<double> sorted = run.ttft_us;
    std::ranges::sort(sorted);
    return sorted[static_cast<size_t>(quantile * static_cast<double>(sorted.size() - 1))] * 1e-6;
  }
  double tokens_per_s() const { return run.tokens_per_s(); }
};

Result<Line> simulate_one(const SimulateOptions& options, const ModelConfig& model, const GpuKind& gpu,
                          const std::string& layout) {
  HYLAS_ASSIGN(const ParallelSizes sizes, parse_layout(layout));
  const SimulatedLayout simulated{.sizes = sizes,
                                  .partition = options.partition,
                                  .chunk = options.chunk,
                                  .async_depth = options.async_depth,
                                  .running_max = options.running_max,
                                  .context_length = options.input_len + options.output_len + 1,
                                  .dynamic_chunking = options.dynamic};
  const SimulatedLoad load{
      equal_requests(options.num_prompts, options.input_len, options.output_len, options.request_rate, options.seed),
      options.concurrency};
  const KernelCosts costs = options.bound ? KernelCosts::bound() : KernelCosts();
  HYLAS_ASSIGN(SimulatedRun run, simulate_layout(model, gpu, costs, simulated, load));
  return Line{gpu, layout, sizes.world(), std::move(run)};
}

boost::json::object to_json(const Line& line) {
  boost::json::array bubbles;
  for (size_t s = 0; s < line.run.busy_us.size(); ++s)
    bubbles.push_back(line.run.bubble_ratio(static_cast<int32_t>(s)));
  return {{"gpu", line.gpu.name},
          {"layout", line.layout},
          {"gpus", line.ranks},
          {"duration_s", line.run.duration_us * 1e-6},
          {"steps", line.run.steps},
          {"ttft_mean_s", line.mean_ttft_s()},
          {"ttft_p50_s", line.ttft_s(0.5)},
          {"ttft_p99_s", line.ttft_s(0.99)},
          {"tpot_ms", line.run.mean_tpot_us() * 1e-3},
          {"tokens_per_s", line.tokens_per_s()},
          {"tokens_per_s_per_gpu", line.tokens_per_s() / line.ranks},
          {"bubble_ratio", bubbles}};
}

void print_head() {
  fmt::print(
      "| GPU   | layout     | TTFT mean |  p50 (s) |  p99 (s) |    tok/s | tok/s/GPU | bubble of each stage (%) |\n"
      "|-------|------------|-----------|----------|----------|----------|-----------|--------------------------|\n");
}

void print(const Line& line) {
  std::string bubbles;
  for (size_t s = 0; s < line.run.busy_us.size(); ++s) {
    bubbles += fmt::format("{}{:.1f}", s ? " " : "", 100 * line.run.bubble_ratio(static_cast<int32_t>(s)));
  }
  fmt::print("| {:5} | {:10} | {:>9.2f} | {:>8.2f} | {:>8.2f} | {:>8.0f} | {:>9.0f} | {} |\n", line.gpu.name,
             line.layout, line.mean_ttft_s(), line.ttft_s(0.5), line.ttft_s(0.99), line.tokens_per_s(),
             line.tokens_per_s() / line.ranks, bubbles);
}

Status run_simulations(const SimulateOptions& options) {
  HYLAS_ASSIGN(const std::string path,
               options.model.empty() ? Result<std::string>(options.model_path) : find_model(options.model));
  HYLAS_ASSIGN(const ModelConfig model, parse_model_config(path));
  boost::json::array all;
  bool has_head = false;
  for (const std::string& name : options.gpus) {
    HYLAS_ASSIGN(const GpuKind gpu, find_gpu(name));
    for (const std::string& layout : options.layouts) {
      HYLAS_ASSIGN(const Line line, simulate_one(options, model, gpu, layout));
      if (options.json) {
        all.push_back(to_json(line));
      } else {
        if (!std::exchange(has_head, true)) print_head();
        print(line);
      }
    }
  }
  if (options.json) fmt::print("{}\n", boost::json::serialize(all));
  return {};
}

void add_workload(CLI::App& command, SimulateOptions& options) {
  constexpr const char* kGroup = "Workload";
  const auto number = [&](const char* name, int32_t& value, int32_t least, const char* help) {
    command.add_option(name, value, help)->check(CLI::Range(least, 1 << 24))->capture_default_str()->group(kGroup);
  };
  number("--num-prompts", options.num_prompts, 1, "Requests");
  number("--random-input-len", options.input_len, 1, "Tokens of each prompt");
  number("--random-output-len", options.output_len, 1, "Tokens of each reply");
  number("--max-concurrency", options.concurrency, 1, "Requests under way at a time");
  command.add_option("--request-rate", options.request_rate, "Requests per second, a Poisson process; 0: all at once")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--seed", options.seed, "Of the arrivals")->capture_default_str()->group(kGroup);
}

}  // namespace

void add_bench_simulate(CLI::App& bench_command, Action& action) {
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command = bench_command.add_subcommand("simulate", "Layouts of GPUs against each other, without any GPU");
  CLI::Option_group* which = command->add_option_group("Model (one of)");
  which->add_option("--model-path", options->model_path, "Folder with a config.json, or the file");
  which->add_option("--model", options->model, "A released model, such as qwen3.5-4b: see models/configs");
  which->require_option(1);
  constexpr const char* kGroup = "Layout";
  command->add_option("--gpu", options->gpus, "H20, H100, H200")->delimiter(',')->capture_default_str()->group(kGroup);
  command->add_option("--layout", options->layouts, "Sizes: tp8, pp4tp2, tp8ep8dp4")
      ->delimiter(',')
      ->capture_default_str()
      ->group(kGroup);
  command->add_option("--pp-layer-partition", options->partition, "Layers of each stage; else balanced by their cost")
      ->group(kGroup);
  command->add_option("--chunked-prefill-size", options->chunk, "Prompt tokens of a step, a multiple of 64")
      ->check(CLI::Range(64, 1 << 24))
      ->capture_default_str()
      ->group(kGroup);
  command->add_option("--pp-async-batch-depth", options->async_depth, "Steps planned beyond one for each stage")
      ->check(CLI::Range(0, 64))
      ->capture_default_str()
      ->group(kGroup);
  command->add_option("--max-running-requests", options->running_max, "Sequences at a time, if memory holds them")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str()
      ->group(kGroup);
  command->add_flag("--bound", options->bound, "Kernels that lose nothing of the data sheet, instead of ours")
      ->group(kGroup);
  command->add_flag("--enable-dynamic-chunking", options->dynamic, "Chunks shrink as their prefix grows")
      ->group(kGroup);
  add_workload(*command, *options);
  command->add_flag("--json", options->json, "Machine-readable")->group("Output");
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      const Status status = run_simulations(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
