#pragma once
// Prometheus metrics under SGLang's names, with the prefix "hylas:".
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <string>

#include "engine/engine.h"

namespace hylas {

// Thread-safe.
class ServeMetrics {
 public:
  explicit ServeMetrics(const std::string& model_name);

  void first_token(int64_t wait_us);
  void next_token(int64_t wait_us);  // once for each token after the first
  void finished(int64_t total_us, int64_t prompt_tokens, int64_t generated_tokens);
  void http_request(const std::string& endpoint, const std::string& method);

  // Everything in the text format; `stats` gives the gauges and the engine's counters.
  std::string render(const EngineStats& stats) const;

 private:
  prometheus::Histogram& histogram(const char* name, const char* help, prometheus::Histogram::BucketBoundaries bounds);

  const prometheus::Labels labels_;
  prometheus::Registry registry_;
  prometheus::Histogram& first_token_s_;
  prometheus::Histogram& next_token_s_;
  prometheus::Histogram& request_s_;
  prometheus::Histogram& prompt_tokens_;
  prometheus::Histogram& generated_tokens_;
  prometheus::Family<prometheus::Counter>& http_requests_;
};

}  // namespace hylas
