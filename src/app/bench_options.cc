// The options of a benchmark's workload.
#include <CLI/CLI.hpp>
#include <charconv>

#include "app/bench_run.h"

namespace hylas {
namespace {

// from_chars reads "inf" too.
Result<double> parse_rate(const std::string& text, const char* option) {
  double rate = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), rate);
  if (failure == std::errc() && end == text.data() + text.size() && rate > 0) return rate;
  return error(ErrorCode::kInvalid, "{}: '{}' is not a number of requests per second above 0, or inf", option, text);
}

Result<int32_t> parse_concurrency(const std::string& text, const char* option) {
  int32_t count = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (failure == std::errc() && end == text.data() + text.size() && count > 0 && count <= kInFlightMax) return count;
  return error(ErrorCode::kInvalid, "{}: '{}' is not a number of requests from 1 to {}", option, text, kInFlightMax);
}

Result<std::vector<BenchPoint>> sweep_points(const BenchOptions& options, const BenchPoint& base) {
  size_t equals = options.sweep.find('=');
  std::string what = options.sweep.substr(0, equals);
  if (equals == std::string::npos || (what != "request-rate" && what != "max-concurrency")) {
    return error(ErrorCode::kInvalid, "--sweep '{}' is not of the form request-rate=1,2,inf or max-concurrency=1,8,64",
                 options.sweep);
  }
  std::vector<BenchPoint> points;
  for (const std::string& value : CLI::detail::split(options.sweep.substr(equals + 1), ',')) {
    BenchPoint point = base;
    if (what == "request-rate") {
      HYLAS_ASSIGN(point.request_rate, parse_rate(value, "--sweep"));
      point.label = fmt::format("{} requests/s", value);
    } else {
      HYLAS_ASSIGN(point.in_flight_max, parse_concurrency(value, "--sweep"));
      point.label = fmt::format("{} at a time", value);
    }
    points.push_back(std::move(point));
  }
  return points;
}

void add_rate_options(CLI::App& command, BenchOptions& options) {
  constexpr const char* kGroup = "Rate";
  command.add_option("--request-rate", options.request_rate, "Requests per second; inf: all at once")
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--burstiness", options.burstiness, "1: a Poisson process; below it in bursts, above more evenly")
      ->check(CLI::Range(0.001, 1000.0))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--max-concurrency", options.max_concurrency,
                  fmt::format("Requests under way at a time; 0: as many as there are, up to {}", kInFlightMax))
      ->check(CLI::Range(0, kInFlightMax))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--sweep", options.sweep,
                  "A run for each value: request-rate=1,2,inf or max-concurrency=1,8,64, instead of that option")
      ->group(kGroup);
  command.add_option("--warmup-requests", options.warmup_requests, "Sent before, at most 32 tokens each, not counted")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str()
      ->group(kGroup);
}

}  // namespace

void add_bench_options(CLI::App& command, BenchOptions& options) {
  constexpr const char* kGroup = "Workload";
  command.option_defaults()->take_last();
  command.add_option("--dataset", options.dataset, "random-ids, or jsonl: lines with `prompt`, a text or token ids")
      ->check(CLI::IsMember({"random-ids", "jsonl"}))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--data-path", options.data_path, "The file of --dataset jsonl")->group(kGroup);
  command.add_option("--num-prompts", options.num_prompts, "Requests of a run")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--random-input-len", options.random_input_len, "Tokens of the longest prompt")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--random-output-len", options.random_output_len,
                  "Tokens of the longest reply; of jsonl, where a line has no `output_tokens`")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--random-range-ratio", options.random_range_ratio,
                  "Lengths are drawn from this share of the longest up to it; 1: all alike")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--seed", options.seed, "Of lengths, ids and arrivals")->capture_default_str()->group(kGroup);
  command.add_flag("--disable-ignore-eos", options.disable_ignore_eos, "Replies may end before their length")
      ->group(kGroup);
  add_rate_options(command, options);
  command.add_option("--gpus", options.gpus, "GPUs that serve, for tokens/s/GPU")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group("Results");
  command.add_option("--output-file", options.output_file, "JSON with every figure")->group("Results");
  command.add_option("--plot", options.plot, "SVG: latency against throughput over the sweep")
      ->needs("--sweep")
      ->group("Results");
}

Result<std::vector<BenchPoint>> bench_points(const BenchOptions& options) {
  if (options.dataset == "jsonl" && options.data_path.empty()) {
    return error(ErrorCode::kInvalid, "--dataset jsonl needs --data-path, a file with a `prompt` on each line");
  }
  BenchPoint base;
  HYLAS_ASSIGN(base.request_rate, parse_rate(options.request_rate, "--request-rate"));
  if (options.max_concurrency > 0) base.in_flight_max = options.max_concurrency;
  if (options.sweep.empty()) return std::vector<BenchPoint>{base};
  return sweep_points(options, base);
}

}  // namespace hylas
