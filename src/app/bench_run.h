#pragma once
// What `hylas bench serve` and `hylas bench offline` share: the workload's options, the run and its results.
#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "evaluate/load.h"

namespace CLI {
class App;
}

namespace hylas {

struct BenchOptions {
  std::string dataset = "random-ids";  // random-ids | jsonl
  std::string data_path;               // of jsonl
  int32_t random_input_len = 1024;
  int32_t random_output_len = 1024;
  double random_range_ratio = 0;
  int32_t num_prompts = 1000;
  std::string request_rate = "inf";
  double burstiness = 1;
  int32_t max_concurrency = 0;  // 0: kInFlightMax
  std::string sweep;            // request-rate=1,2,inf | max-concurrency=1,8,64
  uint64_t seed = 42;
  int32_t warmup_requests = 1;
  bool disable_ignore_eos = false;
  int32_t gpus = 1;
  std::string output_file, plot;
};

void add_bench_options(CLI::App& command, BenchOptions& options);

// One run of a sweep, or the only one.
struct BenchPoint {
  double request_rate = 0;  // may be infinite
  int32_t in_flight_max = kInFlightMax;
  std::string label;  // "4 requests/s", "8 at a time", ""
};

// kInvalid: names the option and the value that does not fit.
Result<std::vector<BenchPoint>> bench_points(const BenchOptions& options);

// Warms up, runs every point and shows it; writes --output-file and --plot. `subject` says in the output file what was
// measured. kIo: a request failed; the results are shown and written nevertheless.
Status run_bench(const BenchOptions& options, int32_t vocabulary, boost::json::object subject, const Send& send);

}  // namespace hylas
