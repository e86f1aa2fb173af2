// One layout of GPUs under load, with made-up weights, without server and text; prints one line of JSON.
//   gpu_layout_bench CONFIG_DIR LAYOUT [--chunk N] [--prompts N,N...] [--concurrency N] [--input N] [--output N]
//                    [--disable-cuda-graph]
// LAYOUT: "tp2", "pp4tp2", "tp8ep8dp4". The seed's settings: FP8 KV, float16 state, pages of 64, no reuse of prefixes.
// With several numbers of prompts one load after the other, a line for each.
#include <algorithm>
#include <boost/json.hpp>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>

#include "base/check.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/layout_name.h"
#include "gpu_workload.h"

namespace hylas {
namespace {

struct Workload {
  int32_t prompts = 256, concurrency = 256, input = 3500, output = 1;
};

// Sends the prompts, at most `concurrency` at a time, and waits for all.
class Run {
 public:
  Run(Engine& engine, const Workload& load, uint32_t seed) : times_(load.prompts) {
    std::mt19937 random(seed);
    begin_us_ = now_us();
    for (int32_t i = 0; i < load.prompts; ++i) {
      Request request = random_request(random, engine.info(), load.input, load.output);
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return open_ < load.concurrency; });
      ++open_;
      times_[i].sent_us = now_us();
      lock.unlock();
      const auto submitted = engine.submit(std::move(request), [this, i](Output output) { take(i, output); });
      HYLAS_CHECK(submitted.ok(), "{}", submitted.error().message);
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_ == 0; });
    end_us_ = now_us();
  }

  double seconds() const { return static_cast<double>(end_us_ - begin_us_) * 1e-6; }
  // Seconds from sending to the first token, ascending.
  std::vector<double> ttfts() const {
    std::vector<double> all;
    for (const Times& one : times_) all.push_back(static_cast<double>(one.first_us - one.sent_us) * 1e-6);
    std::ranges::sort(all);
    return all;
  }
  // Mean milliseconds of an output token after the first, over all requests.
  double tpot_ms(int32_t output) const {
    double sum = 0;
    for (const Times& one : times_) sum += static_cast<double>(one.last_us - one.first_us) * 1e-3 / (output - 1);
    return sum / static_cast<double>(times_.size());
  }

 private:
  struct Times {
    int64_t sent_us = 0, first_us = 0, last_us = 0;
  };
  void take(int32_t request, const Output& output) {
    const int64_t now = now_us();
    std::lock_guard lock(mutex_);
    HYLAS_CHECK(output.error.empty(), "{}", output.error);
    Times& times = times_[request];
    if (!output.tokens.empty() && times.first_us == 0) times.first_us = now;
    times.last_us = now;
    if (!output.finish) return;
    --open_;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Times> times_;
  int32_t open_ = 0;
  int64_t begin_us_ = 0, end_us_ = 0;
};

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// The numbers of "2,64,256".
std::vector<int32_t> numbers_of(const char* text) {
  std::vector<int32_t> all;
  for (char* at = nullptr; *text; text = *at == ',' ? at + 1 : at) {
    all.push_back(static_cast<int32_t>(std::strtol(text, &at, 10)));
    HYLAS_CHECK(at != text && (*at == ',' || !*at), "'{}' is no list of numbers", text);
  }
  return all;
}

void print_run(Engine& engine, const Workload& load, boost::json::object line) {
  const EngineStats before = engine.stats();
  const Run run(engine, load, 2);
  const EngineStats after = engine.stats();
  boost::json::array bubbles, sums;
  for (size_t s = 0; s < after.stages.size(); ++s) {
    const StageStats &begin = before.stages[s], &end = after.stages[s];
    const StageStats of_run{end.busy_us - begin.busy_us, end.sums_us - begin.sums_us, end.active_us - begin.active_us};
    bubbles.push_back(of_run.bubble_ratio());
    sums.push_back(static_cast<double>(of_run.sums_us) / static_cast<double>(std::max<int64_t>(of_run.busy_us, 1)));
  }
  const std::vector<double> ttfts = run.ttfts();
  line["prompts"] = load.prompts;
  line["duration_s"] = run.seconds();
  line["tokens_per_s"] = load.prompts * static_cast<double>(load.input + load.output) / run.seconds();
  line["ttft_mean_s"] = mean(ttfts);
  line["ttft_p50_s"] = ttfts[ttfts.size() / 2];
  line["ttft_p99_s"] = ttfts[ttfts.size() * 99 / 100];
  line["bubble_ratio"] = bubbles;
  line["sums_of_busy"] = sums;
  if (load.output > 1) line["tpot_ms"] = run.tpot_ms(load.output);
  fmt::print("{}\n", boost::json::serialize(line));
  std::fflush(stdout);
}

int main_of(int count, char** arguments) {
  if (count < 3) {
    fmt::print(stderr, "usage: gpu_layout_bench CONFIG_DIR LAYOUT [--chunk N] [--prompts N] [--concurrency N] ...\n");
    return 2;
  }
  const auto given = [&](const char* flag) {
    return std::find_if(arguments + 3, arguments + count, [&](const char* one) { return !std::strcmp(one, flag); });
  };
  const auto number = [&](const char* flag, int32_t otherwise) {
    char** found = given(flag);
    return found + 1 < arguments + count ? std::atoi(found[1]) : otherwise;
  };
  const auto sizes = parse_layout(arguments[2]);
  if (!sizes.ok()) {
    fmt::print(stderr, "{}\n", sizes.error().message);
    return 2;
  }
  Workload load;
  std::vector<int32_t> prompts = {load.prompts};
  if (char** found = given("--prompts"); found + 1 < arguments + count) prompts = numbers_of(found[1]);
  load.concurrency = number("--concurrency", load.concurrency);
  load.input = number("--input", load.input);
  load.output = number("--output", load.output);
  EngineOptions options = gpu_engine_options(arguments[1]);
  options.context_length = load.input + load.output + 1;
  options.chunked_prefill_size = options.max_prefill_tokens = number("--chunk", 16384);
  options.parallel = *sizes;
  options.enable_dp_attention = sizes->dp > 1;
  options.disable_cuda_graph = given("--disable-cuda-graph") != arguments + count;
  const int64_t begin_us = now_us();
  auto started = Engine::start(options);
  if (!started.ok()) {
    fmt::print(stderr, "{}: {}\n", arguments[2], started.error().message);
    return 1;
  }
  Engine& engine = **started;
  const double start_s = static_cast<double>(now_us() - begin_us) * 1e-6;
  Run(engine, {.prompts = 8, .concurrency = 8, .input = load.input, .output = std::min(load.output, 8)}, 1);
  for (const int32_t one : prompts) {
    load.prompts = one;
    print_run(engine, load,
              {{"layout", arguments[2]},
               {"gpus", sizes->world()},
               {"chunk", options.chunked_prefill_size},
               {"start_s", start_s}});
  }
  engine.drain(0);
  return 0;
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) { return hylas::main_of(count, arguments); }
