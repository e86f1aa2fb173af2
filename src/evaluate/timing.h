#pragma once
// When the tokens of a request came, and what follows for many requests: the figures of a serving benchmark as SGLang
// defines them. Pure functions.
#include <boost/json.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hylas {

struct TokenArrival {
  int64_t at_us;   // base/clock.h
  int64_t tokens;  // new ones, at least 1
};

struct RequestTiming {
  int64_t sent_us = 0;
  std::vector<TokenArrival> arrivals;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // as the server counts; at least those of the arrivals
  std::string failure;        // why the answer is missing or not complete; then the request counts as failed only
};

// All in ms but the count.
struct Distribution {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0;
};

// Percentiles between two values are interpolated, as numpy's are. Of nothing, all is 0.
Distribution distribution(std::vector<double> values);

struct Measurement {
  int64_t succeeded = 0, failed = 0;
  std::string first_failure;
  double duration_s = 0;
  int64_t input_tokens = 0, output_tokens = 0;  // of the requests that succeeded
  int32_t gpus = 1;
  double concurrency = 0;  // requests under way, on average
  Distribution ttft_ms;    // first token, from when the request was sent
  Distribution itl_ms;     // between tokens; several that come together share their gap
  Distribution tpot_ms;    // of a request: its time after the first token over its other tokens
  Distribution e2e_ms;     // last token, from when the request was sent
  double per_s(int64_t things) const { return duration_s > 0 ? double(things) / duration_s : 0; }
};

Measurement measure(std::span<const RequestTiming> requests, double duration_s, int32_t gpus);

// The table that people read, and the same figures for programs.
std::string to_table(const Measurement& measured, const std::string& title);
boost::json::object to_json(const Measurement& measured);

}  // namespace hylas
