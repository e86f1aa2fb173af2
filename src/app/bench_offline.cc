// hylas bench offline: the engine alone, without HTTP and without text.
#include <CLI/CLI.hpp>
#include <memory>

#include "app/bench_commands.h"
#include "app/bench_run.h"
#include "app/load_text.h"
#include "app/options.h"
#include "base/clock.h"
#include "base/queue.h"
#include "engine/node_worker.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas bench offline --model-path models/hylas-tiny --num-prompts 64 --random-input-len 256 --random-output-len 64
  hylas bench offline --model-path ~/models/Qwen3.5-4B --load-format dummy --sweep max-concurrency=1,8,32
The figures are those of `hylas bench serve`.)";

struct OfflineOptions {
  Options common;
  BenchOptions bench;
};

// `text` has a tokenizer if a prompt may be a text.
Request request_of(const Task& task, const TextModel& text) {
  Request request;
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&task.prompt)) {
    request.prompt = *ids;
  } else {
    request.prompt = text.tokenizer->encode(std::get<std::string>(task.prompt));
  }
  request.sampling.temperature = 0;
  request.sampling.max_new_tokens = task.output_tokens_max;
  request.sampling.ignore_eos = task.ignore_eos;
  return request;
}

struct TimedOutput {
  Output output;
  int64_t at_us;
};

RequestTiming time_request(Engine& engine, const TextModel& text, const Task& task) {
  Request request = request_of(task, text);
  RequestTiming timing{.sent_us = now_us(), .prompt_tokens = int64_t(request.prompt.size())};
  auto outputs = std::make_shared<Queue<TimedOutput>>(SIZE_MAX);
  auto submitted =
      engine.submit(std::move(request), [outputs](Output output) { outputs->push({std::move(output), now_us()}); });
  if (!submitted.ok()) {
    timing.failure = submitted.error().message;
    return timing;
  }
  while (true) {
    auto [output, at_us] = *outputs->pop();
    if (!output.tokens.empty()) timing.arrivals.push_back({at_us, int64_t(output.tokens.size())});
    timing.output_tokens += int64_t(output.tokens.size());
    if (!output.finish) continue;
    if (*output.finish == FinishReason::kError) timing.failure = output.error;
    if (*output.finish == FinishReason::kAbort) timing.failure = "the request was aborted";
    return timing;
  }
}

Status bench(const OfflineOptions& options) {
  HYLAS_TRY(check_engine_options(options.common));
  HYLAS_TRY(bench_points(options.bench));
  TextModel text;
  if (options.bench.dataset == "jsonl") {
    HYLAS_ASSIGN(text, load_text(options.common));
  }
  if (options.common.engine.node_rank > 0) return run_node(options.common.engine);
  HYLAS_ASSIGN(auto engine, Engine::start(options.common.engine));
  boost::json::object subject{{"model", engine->info().model_name}, {"dtype", engine->info().dtype}};
  Status status = run_bench(options.bench, engine->info().vocab_size, std::move(subject),
                            [&](const Task& task) { return time_request(*engine, text, task); });
  engine->drain(0);
  return status;
}

}  // namespace

void add_bench_offline(CLI::App& bench_command, Action& action) {
  auto options = std::make_shared<OfflineOptions>();
  CLI::App* command = bench_command.add_subcommand("offline", "Latency and throughput of the engine, without HTTP");
  add_engine_options(*command, options->common);
  add_bench_options(*command, options->bench);
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = bench(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
