#include "evaluate/timing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hylas {
namespace {

using boost::json::object;

// values: sorted, at least one.
double percentile(const std::vector<double>& values, double percent) {
  double rank = percent / 100 * double(values.size() - 1);
  size_t below = size_t(std::floor(rank));
  size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (rank - double(below));
}

double ms(int64_t us) { return double(us) * 1e-3; }

struct Samples {
  std::vector<double> ttft, itl, tpot, e2e;  // ms

  void add(const RequestTiming& request) {
    if (request.arrivals.empty()) return;
    int64_t first_us = request.arrivals.front().at_us, last_us = request.arrivals.back().at_us;
    ttft.push_back(ms(first_us - request.sent_us));
    e2e.push_back(ms(last_us - request.sent_us));
    if (request.output_tokens > 1) tpot.push_back(ms(last_us - first_us) / double(request.output_tokens - 1));
    int64_t before_us = first_us;
    for (const TokenArrival& arrival : std::span(request.arrivals).subspan(1)) {
      itl.insert(itl.end(), size_t(arrival.tokens), ms(arrival.at_us - before_us) / double(arrival.tokens));
      before_us = arrival.at_us;
    }
  }
};

object to_json(const Distribution& values) {
  return {
      {"count", values.count}, {"mean", values.mean}, {"p50", values.p50}, {"p90", values.p90}, {"p99", values.p99}};
}

std::string row(const char* name, const Distribution& values) {
  return fmt::format("{:<30}{:>12.2f}{:>12.2f}{:>12.2f}{:>12.2f}\n", name, values.mean, values.p50, values.p90,
                     values.p99);
}

template <class Number>
std::string row(const char* name, Number value) {
  if constexpr (std::is_floating_point_v<Number>) return fmt::format("{:<30}{:>12.2f}\n", name, value);
  return fmt::format("{:<30}{:>12}\n", name, value);
}

}  // namespace

Distribution distribution(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.count = int64_t(values.size()),
          .mean = sum / double(values.size()),
          .p50 = percentile(values, 50),
          .p90 = percentile(values, 90),
          .p99 = percentile(values, 99)};
}

Measurement measure(std::span<const RequestTiming> requests, double duration_s, int32_t gpus) {
  Measurement measured{.duration_s = duration_s, .gpus = gpus};
  Samples samples;
  for (const RequestTiming& request : requests) {
    if (!request.failure.empty()) {
      if (measured.failed++ == 0) measured.first_failure = request.failure;
      continue;
    }
    ++measured.succeeded;
    measured.input_tokens += request.prompt_tokens;
    measured.output_tokens += request.output_tokens;
    samples.add(request);
  }
  double busy_ms = std::accumulate(samples.e2e.begin(), samples.e2e.end(), 0.0);
  measured.concurrency = duration_s > 0 ? busy_ms * 1e-3 / duration_s : 0;
  measured.ttft_ms = distribution(std::move(samples.ttft));
  measured.itl_ms = distribution(std::move(samples.itl));
  measured.tpot_ms = distribution(std::move(samples.tpot));
  measured.e2e_ms = distribution(std::move(samples.e2e));
  return measured;
}

std::string to_table(const Measurement& measured, const std::string& title) {
  int64_t total_tokens = measured.input_tokens + measured.output_tokens;
  std::string text = fmt::format("{:=^78}\n", " " + title + " ");
  text += row("Successful requests", measured.succeeded);
  if (measured.failed > 0) {
    text += row("Failed requests", measured.failed);
    text += fmt::format("  the first: {}\n", measured.first_failure);
  }
  text += row("Duration (s)", measured.duration_s);
  text += row("Input tokens", measured.input_tokens);
  text += row("Output tokens", measured.output_tokens);
  text += row("Concurrency", measured.concurrency);
  text += row("Requests/s", measured.per_s(measured.succeeded));
  text += row("Input tokens/s", measured.per_s(measured.input_tokens));
  text += row("Output tokens/s", measured.per_s(measured.output_tokens));
  text += row("Total tokens/s", measured.per_s(total_tokens));
  text += row("Input tokens/s/GPU", measured.per_s(measured.input_tokens) / measured.gpus);
  text += row("Output tokens/s/GPU", measured.per_s(measured.output_tokens) / measured.gpus);
  text += row("Total tokens/s/GPU", measured.per_s(total_tokens) / measured.gpus);
  text += fmt::format("{:<30}{:>12}{:>12}{:>12}{:>12}\n", "Latency (ms)", "mean", "p50", "p90", "p99");
  text += row("Time to first token (TTFT)", measured.ttft_ms);
  text += row("Between tokens (ITL)", measured.itl_ms);
  text += row("Per output token (TPOT)", measured.tpot_ms);
  text += row("End to end (E2E)", measured.e2e_ms);
  return text + std::string(78, '=') + "\n";
}

object to_json(const Measurement& measured) {
  int64_t total_tokens = measured.input_tokens + measured.output_tokens;
  object values{{"succeeded", measured.succeeded},
                {"failed", measured.failed},
                {"duration_s", measured.duration_s},
                {"gpus", measured.gpus},
                {"input_tokens", measured.input_tokens},
                {"output_tokens", measured.output_tokens},
                {"concurrency", measured.concurrency},
                {"requests_per_s", measured.per_s(measured.succeeded)},
                {"input_tokens_per_s", measured.per_s(measured.input_tokens)},
                {"output_tokens_per_s", measured.per_s(measured.output_tokens)},
                {"total_tokens_per_s", measured.per_s(total_tokens)},
                {"input_tokens_per_s_per_gpu", measured.per_s(measured.input_tokens) / measured.gpus},
                {"output_tokens_per_s_per_gpu", measured.per_s(measured.output_tokens) / measured.gpus},
                {"total_tokens_per_s_per_gpu", measured.per_s(total_tokens) / measured.gpus},
                {"ttft_ms", to_json(measured.ttft_ms)},
                {"itl_ms", to_json(measured.itl_ms)},
                {"tpot_ms", to_json(measured.tpot_ms)},
                {"e2e_ms", to_json(measured.e2e_ms)}};
  if (measured.failed > 0) values["first_failure"] = measured.first_failure;
  return values;
}

}  // namespace hylas
