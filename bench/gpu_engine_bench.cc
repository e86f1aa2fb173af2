// The whole engine with made-up weights on one GPU, without server and text: what a client of the engine sees.
//   gpu_engine_bench CONFIG_DIR [--disable-cuda-graph] [--own-kernels] [--decode-only]
//     [--few-rows]
// --own-kernels: none of DeepGEMM's and FlashInfer's. --few-rows: up to 64 sequences.
#include <cuda_runtime_api.h>
#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>

#include "base/check.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "gpu_workload.h"

namespace hylas {
namespace {

constexpr int32_t kRowsMax = 256;

// When the tokens of every request of a run came.
class Run {
 public:
  Run(Engine& engine, int32_t requests, int32_t prompt_tokens, int32_t new_tokens) : arrivals_(requests) {
    static std::mt19937 random(1);
    begin_us_ = now_us();
    for (int32_t i = 0; i < requests; ++i) {
      Request request = random_request(random, engine.info(), prompt_tokens, new_tokens);
      const auto submitted = engine.submit(std::move(request), [this, i](Output output) { take(i, output); });
      HYLAS_CHECK(submitted.ok(), "{}", submitted.error().message);
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ == requests; });
  }

  double total_ms() const { return static_cast<double>(end_us_ - begin_us_) / 1e3; }

  // Milliseconds between tokens of the last request while every request decodes, in ascending order.
  std::vector<double> gaps_ms() const {
    int64_t begin = 0, end = INT64_MAX;
    for (const std::vector<int64_t>& times : arrivals_) {
      begin = std::max(begin, times.front());
      end = std::min(end, times.back());
    }
    std::vector<double> gaps;
    const std::vector<int64_t>& times = arrivals_.back();
    for (size_t i = 9; i + 8 < times.size(); ++i) {
      if (times[i - 1] >= begin && times[i] <= end) gaps.push_back(static_cast<double>(times[i] - times[i - 1]) / 1e3);
    }
    std::sort(gaps.begin(), gaps.end());
    return gaps;
  }

 private:
  void take(int32_t request, const Output& output) {
    const int64_t now = now_us();
    std::lock_guard lock(mutex_);
    HYLAS_CHECK(output.error.empty(), "{}", output.error);
    arrivals_[static_cast<size_t>(request)].insert(arrivals_[static_cast<size_t>(request)].end(), output.tokens.size(),
                                                   now);
    if (!output.finish) return;
    end_us_ = now;
    ++finished_;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<int64_t>> arrivals_;
  int32_t finished_ = 0;
  int64_t begin_us_ = 0, end_us_ = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure_prefill(Engine& engine) {
  for (const int32_t tokens : {128, 1024, 3500, 8192}) {
    std::vector<double> times;
    for (int i = 0; i < 7; ++i) times.push_back(Run(engine, 1, tokens, 1).total_ms());
    fmt::print("one prompt of {:4}: {:8.2f} ms\n", tokens, median({times.begin() + 2, times.end()}));
  }
  const int32_t prompts = 64;
  const Run prefill(engine, prompts, 3500, 1);
  fmt::print("{} prompts of 3500 at once: {:8.0f} tokens/s\n", prompts, prompts * 3500 / prefill.total_ms() * 1e3);
}

// Of the whole run. What is free on the GPU counts what others hold there, too.
void print_memory() {
  size_t free = 0, total = 0;
  HYLAS_CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  constexpr double kGiB = 1 << 30;
  fmt::print("memory: GPU {:.1f} of {:.1f} GiB, host {:.2f} GiB at most\n", static_cast<double>(total - free) / kGiB,
             static_cast<double>(total) / kGiB, static_cast<double>(usage.ru_maxrss) * 1024 / kGiB);
}

int main_of(int count, char** arguments) {
  if (count < 2) {
    fmt::print(
        stderr,
        "usage: gpu_engine_bench CONFIG_DIR [--disable-cuda-graph] [--own-kernels] [--decode-only] [--few-rows]\n");
    return 2;
  }
  EngineOptions options = gpu_engine_options(arguments[1]);
  options.context_length = 32768;
  options.chunked_prefill_size = 16384;
  const auto given = [&](const char* flag) {
    return std::any_of(arguments + 2, arguments + count, [&](const char* one) { return std::strcmp(one, flag) == 0; });
  };
  options.disable_cuda_graph = given("--disable-cuda-graph");
  const bool own = given("--own-kernels");
  if (own) {
    options.fp8_gemm_backend = options.moe_runner_backend = "hylas";
    options.linear_attn_backend = options.prefill_attention_backend = "hylas";
  }
  const int64_t begin_us = now_us();
  auto started = Engine::start(options);
  if (!started.ok()) {
    fmt::print(stderr, "{}\n", started.error().message);
    return 1;
  }
  Engine& engine = **started;
  const Run first(engine, 1, 16, 1);
  fmt::print("{}: first token after {:.1f} s{}{}\n", arguments[1], static_cast<double>(now_us() - begin_us) / 1e6,
             options.disable_cuda_graph ? ", no CUDA graphs" : "", own ? ", our own kernels" : "");
  if (!given("--decode-only")) measure_prefill(engine);
  for (const int32_t rows : {1, 8, 64, kRowsMax}) {
    if (rows > 64 && given("--few-rows")) break;
    const std::vector<double> gaps = Run(engine, rows, 1024, 128).gaps_ms();
    double sum = 0;
    for (const double gap : gaps) sum += gap;
    const double mean = sum / static_cast<double>(gaps.size());
    fmt::print("decode {:3} x 1k context: {:7.3f} ms between tokens (p99 {:.3f}, {} steps), {:7.0f} tokens/s\n", rows,
               mean, gaps[gaps.size() * 99 / 100], gaps.size(), rows / mean * 1e3);
  }
  print_memory();
  engine.drain(0);
  return 0;
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) { return hylas::main_of(count, arguments); }
