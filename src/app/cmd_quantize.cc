// hylas quantize: a BF16 checkpoint to FP8 blocks of 128 x 128.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "app/commands.h"
#include "app/options.h"
#include "base/progress.h"
#include "model/quantize_model.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Example:
  hylas quantize --model-path ~/models/Qwen3.5-4B --out ~/models/Qwen3.5-4B-FP8
The projections become FP8 with one scale per block of 128 x 128, as in the released FP8 models; embeddings, norms,
gates and the vision tower stay as they are.)";

struct QuantizeCommand {
  std::string model_path;
  std::string out;
  int32_t threads = 0;
};

int run_quantize(const QuantizeCommand& options) {
  if (Status found = check_model_path(options.model_path); !found.ok()) return fail(found.error());
  std::optional<Progress> bar;
  size_t shown = 0;
  const auto progress = [&](size_t done_bytes, size_t total_bytes) {
    if (!bar) bar.emplace("Quantising", total_bytes);
    bar->add(done_bytes - std::exchange(shown, done_bytes));
  };
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int threads = options.threads > 0 ? options.threads : cores;
  const Status status = quantize_model(options.model_path, options.out, threads, progress);
  bar.reset();
  if (!status.ok()) return fail(status.error());
  std::fprintf(stderr, "%s\n", options.out.c_str());
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  auto options = std::make_shared<QuantizeCommand>();
  CLI::App* command = app.add_subcommand("quantize", "Turns a BF16 checkpoint into one in FP8 blocks");
  command->footer(kExamples);
  command->add_option("--model-path", options->model_path, "The checkpoint's directory")->required();
  command->add_option("--out", options->out, "The new checkpoint's directory; must be empty or not there")->required();
  command->add_option("--threads", options->threads, "0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->callback([options, &action] { action = [options] { return run_quantize(*options); }; });
}

}  // namespace hylas
