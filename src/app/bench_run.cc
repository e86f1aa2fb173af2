#include "app/bench_run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "app/commands.h"
#include "base/text_file.h"
#include "evaluate/count_progress.h"
#include "evaluate/svg_plot.h"
#include "evaluate/workload.h"

namespace hylas {
namespace {

using boost::json::object;

constexpr int32_t kWarmupTokensMax = 32;

struct BenchResult {
  BenchPoint point;
  Measurement measured;
};

Result<std::vector<Task>> make_tasks(const BenchOptions& options, int32_t vocabulary, uint64_t seed) {
  bool ignore_eos = !options.disable_ignore_eos;
  if (options.dataset == "jsonl") {
    HYLAS_ASSIGN(std::string text, read_text_file(options.data_path));
    return parse_tasks(text, options.data_path, options.num_prompts, options.random_output_len, ignore_eos);
  }
  return random_tasks({.prompts = options.num_prompts,
                       .input_tokens = options.random_input_len,
                       .output_tokens = options.random_output_len,
                       .range_ratio = options.random_range_ratio,
                       .vocabulary = vocabulary,
                       .ignore_eos = ignore_eos},
                      seed);
}

Status warm_up(const BenchOptions& options, Task task, const Send& send) {
  task.output_tokens_max = std::min(task.output_tokens_max, kWarmupTokensMax);
  for (int32_t i = 0; i < options.warmup_requests; ++i) {
    RequestTiming timing = send(task);
    if (!timing.failure.empty()) return error(ErrorCode::kIo, "a warm-up request failed: {}", timing.failure);
  }
  return {};
}

Measurement run_point(const BenchOptions& options, const BenchPoint& point, const std::vector<Task>& tasks,
                      const Send& send) {
  std::vector<double> due_s =
      arrival_times_s(int32_t(tasks.size()), point.request_rate, options.burstiness, options.seed);
  CountProgress progress(point.label.empty() ? "Requests" : point.label, int64_t(tasks.size()));
  Load load = run_load(tasks, due_s, point.in_flight_max, send, [&] { progress.add(); });
  return measure(load.requests, load.duration_s, options.gpus);
}

object workload_json(const BenchOptions& options) {
  object workload{{"dataset", options.dataset},
                  {"num_prompts", options.num_prompts},
                  {"seed", options.seed},
                  {"ignore_eos", !options.disable_ignore_eos},
                  {"burstiness", options.burstiness},
                  {"warmup_requests", options.warmup_requests},
                  {"output_len", options.random_output_len}};
  if (options.dataset == "jsonl") {
    workload["data_path"] = options.data_path;
  } else {
    workload["input_len"] = options.random_input_len;
    workload["range_ratio"] = options.random_range_ratio;
  }
  return workload;
}

object result_json(const BenchResult& result) {
  object run;
  run["request_rate"] = std::isinf(result.point.request_rate) ? boost::json::value("inf") : result.point.request_rate;
  run["max_concurrency"] = result.point.in_flight_max;
  for (auto& [name, value] : to_json(result.measured)) run[name] = value;
  return run;
}

Status write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.close();
  return file ? Status() : Status(error(ErrorCode::kIo, "cannot write {}; choose another place", path));
}

Plot latency_plot(const std::vector<BenchResult>& results, const char* title, Distribution Measurement::* which) {
  PlotSeries median{.name = "p50"}, worst{.name = "p99"};
  for (const BenchResult& result : results) {
    double tokens_per_s = result.measured.per_s(result.measured.output_tokens);
    const Distribution& latency = result.measured.*which;
    median.points.push_back({tokens_per_s, latency.p50, ""});
    worst.points.push_back({tokens_per_s, latency.p99, result.point.label});
  }
  return {title, "output tokens/s", "ms", {median, worst}};
}

void print_sweep(const std::vector<BenchResult>& results) {
  fmt::print("{:<20}{:>16}{:>20}{:>14}{:>14}{:>14}{:>14}\n", "Sweep", "Output tokens/s", "Output tokens/s/GPU",
             "TTFT p50 ms", "TTFT p99 ms", "TPOT p50 ms", "TPOT p99 ms");
  for (const auto& [point, measured] : results) {
    double tokens_per_s = measured.per_s(measured.output_tokens);
    fmt::print("{:<20}{:>16.2f}{:>20.2f}{:>14.2f}{:>14.2f}{:>14.2f}{:>14.2f}\n", point.label, tokens_per_s,
               tokens_per_s / measured.gpus, measured.ttft_ms.p50, measured.ttft_ms.p99, measured.tpot_ms.p50,
               measured.tpot_ms.p99);
  }
}

Status write_results(const BenchOptions& options, object subject, const std::vector<BenchResult>& results) {
  if (!options.output_file.empty()) {
    boost::json::array runs;
    for (const BenchResult& result : results) runs.emplace_back(result_json(result));
    object all{{"version", kVersion}, {"subject", std::move(subject)}, {"workload", workload_json(options)}};
    all["runs"] = std::move(runs);
    HYLAS_TRY(write_file(options.output_file, boost::json::serialize(all) + "\n"));
  }
  if (options.plot.empty()) return {};
  std::vector<Plot> plots = {latency_plot(results, "Time to first token", &Measurement::ttft_ms),
                             latency_plot(results, "Time per output token", &Measurement::tpot_ms)};
  return write_file(options.plot, to_svg(plots));
}

// The requests that failed, of all runs.
Status check_failures(const std::vector<BenchResult>& results) {
  int64_t failed = 0, sent = 0;
  std::string first;
  for (const BenchResult& result : results) {
    if (first.empty()) first = result.measured.first_failure;
    failed += result.measured.failed;
    sent += result.measured.failed + result.measured.succeeded;
  }
  if (failed == 0) return {};
  return error(ErrorCode::kIo, "{} of {} requests failed; the first: {}", failed, sent, first);
}

}  // namespace

Status run_bench(const BenchOptions& options, int32_t vocabulary, object subject, const Send& send) {
  HYLAS_ASSIGN(std::vector<BenchPoint> points, bench_points(options));
  std::vector<BenchResult> results;
  for (size_t i = 0; i < points.size(); ++i) {
    // Other prompts in each run, so that no run finds those of the one before in the server's prefix cache.
    HYLAS_ASSIGN(std::vector<Task> tasks, make_tasks(options, vocabulary, options.seed + i));
    if (i == 0) HYLAS_TRY(warm_up(options, tasks.front(), send));
    results.push_back({points[i], run_point(options, points[i], tasks, send)});
    const Measurement& measured = results.back().measured;
    fmt::print("{}", to_table(measured, points[i].label.empty() ? "Benchmark" : points[i].label));
    std::fflush(stdout);
    if (measured.succeeded == 0) break;
  }
  if (points.size() > 1) print_sweep(results);
  HYLAS_TRY(write_results(options, std::move(subject), results));
  return check_failures(results);
}

}  // namespace hylas
