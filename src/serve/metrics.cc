#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/text_serializer.h>

namespace hylas {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

const prometheus::Histogram::BucketBoundaries kLatencyS = {0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5,
                                                           3,     6,    12,    25,   50,  100, 200, 400};
const prometheus::Histogram::BucketBoundaries kTokenLatencyS = {
    0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.4, 0.8, 2, 5};
const prometheus::Histogram::BucketBoundaries kTokens = {1,    10,   50,    100,   200,   500,    1000,
                                                         2000, 5000, 10000, 20000, 50000, 100000, 200000};

struct Reading {
  const char* name;
  const char* help;
  double value;
  bool counter = false;
};

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

std::vector<Reading> readings(const EngineStats& s) {
  double kv_used = double(s.kv_tokens_used), kv_max = double(s.kv_tokens_max);
  return {
      {"num_running_reqs", "Sequences being generated", double(s.running)},
      {"num_queue_reqs", "Sequences that wait for memory", double(s.queued)},
      {"num_retracted_reqs", "Sequences that were moved out of memory and wait to resume", double(s.retracted)},
      {"num_transferring_reqs", "Sequences whose state is on its way to or from another instance", double(s.transfers)},
      {"gen_throughput", "Generated tokens per second, over the last seconds", s.generation_tokens_per_s},
      {"token_usage", "Share of the KV cache in use", ratio(kv_used, kv_max)},
      {"num_used_tokens", "Tokens in the KV cache", kv_used},
      {"max_total_num_tokens", "Tokens that the KV cache holds", kv_max},
      {"kv_used_tokens", "Tokens in the KV cache", kv_used},
      {"kv_available_tokens", "Tokens that the KV cache has room for", kv_max - kv_used},
      {"kv_used_pages", "Pages of the KV cache in use", double(s.pages_used)},
      {"kv_total_pages", "Pages of the KV cache", double(s.pages_max)},
      {"mamba_usage", "Share of the state slots in use", ratio(s.slots_used, s.slots_max)},
      {"mamba_used_slots", "State slots in use", double(s.slots_used)},
      {"mamba_total_slots", "State slots", double(s.slots_max)},
      {"prompt_tokens_total", "Prompt tokens processed", double(s.prompt_tokens_total), true},
      {"generation_tokens_total", "Tokens generated", double(s.generated_tokens_total), true},
      {"num_requests_total", "Sequences taken", double(s.requests_total), true},
      {"num_aborted_requests_total", "Sequences aborted", double(s.aborted_total), true},
      {"num_retractions_total", "Times a sequence was moved out of memory", double(s.retractions_total), true},
      {"num_steps_total", "Steps of the model", double(s.steps_total), true},
  };
}

MetricFamily family(const Reading& reading, const prometheus::Labels& labels) {
  ClientMetric metric;
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  if (reading.counter) {
    metric.counter.value = reading.value;
  } else {
    metric.gauge.value = reading.value;
  }
  return {std::string("hylas:") + reading.name,
          reading.help,
          reading.counter ? MetricType::Counter : MetricType::Gauge,
          {metric}};
}

// One gauge or counter for each stage of the pipeline.
template <class Value>
MetricFamily stage_family(const EngineStats& stats, const prometheus::Labels& labels, const Reading& reading,
                          Value value) {
  MetricFamily all = family(reading, labels);
  all.metric.clear();
  for (size_t stage = 0; stage < stats.stages.size(); ++stage) {
    ClientMetric metric = family(reading, labels).metric.front();
    metric.label.push_back({"stage", std::to_string(stage)});
    (reading.counter ? metric.counter.value : metric.gauge.value) = value(stats.stages[stage]);
    all.metric.push_back(std::move(metric));
  }
  return all;
}

}  // namespace

ServeMetrics::ServeMetrics(const std::string& model_name)
    : labels_{{"model_name", model_name}, {"engine_type", "unified"}},
      first_token_s_(histogram("time_to_first_token_seconds", "From the request to its first token", kLatencyS)),
      next_token_s_(histogram("inter_token_latency_seconds", "From one token to the next", kTokenLatencyS)),
      request_s_(histogram("e2e_request_latency_seconds", "From the request to the end of its answer", kLatencyS)),
      prompt_tokens_(histogram("prompt_tokens_histogram", "Tokens of prompts", kTokens)),
      generated_tokens_(histogram("generation_tokens_histogram", "Tokens of answers", kTokens)),
      http_requests_(prometheus::BuildCounter()
                         .Name("hylas:http_requests_total")
                         .Help("HTTP requests")
                         .Labels(labels_)
                         .Register(registry_)) {}

prometheus::Histogram& ServeMetrics::histogram(const char* name, const char* help,
                                               prometheus::Histogram::BucketBoundaries bounds) {
  auto& family = prometheus::BuildHistogram().Name(std::string("hylas:") + name).Help(help).Register(registry_);
  return family.Add(labels_, std::move(bounds));
}

void ServeMetrics::first_token(int64_t wait_us) { first_token_s_.Observe(double(wait_us) * 1e-6); }

void ServeMetrics::next_token(int64_t wait_us) { next_token_s_.Observe(double(wait_us) * 1e-6); }

void ServeMetrics::finished(int64_t total_us, int64_t prompt_tokens, int64_t generated_tokens) {
  request_s_.Observe(double(total_us) * 1e-6);
  prompt_tokens_.Observe(double(prompt_tokens));
  generated_tokens_.Observe(double(generated_tokens));
}

void ServeMetrics::http_request(const std::string& endpoint, const std::string& method) {
  http_requests_.Add({{"endpoint", endpoint}, {"method", method}}).Increment();
}

std::string ServeMetrics::render(const EngineStats& stats) const {
  std::vector<MetricFamily> families;
  for (const Reading& reading : readings(stats)) families.push_back(family(reading, labels_));
  families.push_back(stage_family(
      stats, labels_, {"pp_bubble_ratio", "Share of the time with work in flight that a stage did not work", 0},
      [](const StageStats& stage) { return stage.bubble_ratio(); }));
  families.push_back(stage_family(stats, labels_, {"pp_stage_busy_seconds_total", "Time that a stage worked", 0, true},
                                  [](const StageStats& stage) { return double(stage.busy_us) * 1e-6; }));
  families.push_back(stage_family(stats, labels_,
                                  {"pp_stage_sum_seconds_total", "Of it, in sums over the ranks of a stage", 0, true},
                                  [](const StageStats& stage) { return double(stage.sums_us) * 1e-6; }));
  for (MetricFamily& one : registry_.Collect()) families.push_back(std::move(one));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace hylas
