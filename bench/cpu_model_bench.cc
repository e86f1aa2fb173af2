// A whole dense model on the CPU, through the engine, with weights made up from its config.json: prefill of a prompt
// and decode at batch 1 and 8, beside the machine's ceilings measured between them in the same run. The share of the
// bandwidth counts the bytes of the weights that a step must read, the share of the FMA peak the multiply-adds of the
// weight matrices, and the output head once per sequence: attention and states are extra. By the clock and by the
// processors' time per thread, which a busy machine disturbs less.
//   cpu_model_bench [CONFIG_DIR [threads [rounds [prompt tokens]]]]     models/configs/qwen3.5-0.8b, all cores, 5, 512
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "model/manifest.h"
#include "roofline.h"

namespace hylas::bench {
namespace {

constexpr int32_t kDecoded = 24;

// What one token needs of the weights.
struct Work {
  double layer_bytes = 0;
  double layer_weights = 0;
  double head_bytes = 0;
  double head_weights = 0;
};

Work work_of(const ModelConfig& config) {
  Work work;
  for (const TensorSpec& spec : manifest(config)) {
    if (spec.mtp || spec.shape.size() != 2) continue;
    bool is_embedding = spec.name.find("embed_tokens") != std::string::npos;
    bool is_head = spec.name.find("lm_head") != std::string::npos || (is_embedding && config.tie_word_embeddings);
    if (is_embedding && !is_head) continue;
    double weights = static_cast<double>(spec.elements());
    (is_head ? work.head_weights : work.layer_weights) += weights;
    (is_head ? work.head_bytes : work.layer_bytes) += weights * dtype_bytes(spec.dtype);
  }
  return work;
}

// Seconds since the begin: by the clock, and of the processors.
struct Moment {
  double clock = 0;
  double processor = 0;
};
Moment now() { return {seconds_now(), processor_seconds_now()}; }

// One request of a batch: when its tokens came.
struct Arrivals {
  std::vector<Moment> at;
  std::promise<void> done;
};

// `batch` equal requests at once; the moments of the begin and of each token, once all of them have it.
std::vector<Moment> run(Engine& engine, int32_t batch, int32_t prompt, int32_t tokens) {
  std::vector<Arrivals> all(static_cast<size_t>(batch));
  std::vector<Moment> latest(static_cast<size_t>(tokens) + 1);
  latest[0] = now();
  for (Arrivals& one : all) {
    Request request;
    for (int32_t i = 0; i < prompt; ++i) request.prompt.push_back(1000 + i * 7);
    request.sampling.temperature = 0;
    request.sampling.max_new_tokens = tokens;
    request.sampling.ignore_eos = true;
    engine
        .submit(std::move(request),
                [&one](Output output) {
                  for (size_t i = 0; i < output.tokens.size(); ++i) one.at.push_back(now());
                  if (output.finish) one.done.set_value();
                })
        .value();
  }
  for (Arrivals& one : all) {
    one.done.get_future().wait();
    for (size_t i = 1; i < latest.size(); ++i) {
      latest[i].clock = std::max(latest[i].clock, one.at.at(i - 1).clock);
      latest[i].processor = std::max(latest[i].processor, one.at.at(i - 1).processor);
    }
  }
  return latest;
}

// The shortest time of several turns: by the clock, and of the processors per thread, which a busy machine disturbs
// less.
struct Best {
  double clock_s = 1e30;
  double processor_s = 1e30;
  void see(double clock, double processor) {
    clock_s = std::min(clock_s, clock);
    processor_s = std::min(processor_s, processor);
  }
};

constexpr int32_t kBatches[] = {1, 8};
struct Figures {
  Best prefill;
  Best decode[std::size(kBatches)];  // a step
};

void see(Best& best, const Moment& from, const Moment& to, double parts) {
  best.see((to.clock - from.clock) / parts, (to.processor - from.processor) / parts);
}

// The best of several rounds: a shared machine disturbs some.
Figures measure(Engine& engine, Roofline& roofline, int rounds, int32_t prompt) {
  constexpr size_t kWindow = 4;  // decode steps that one figure is the mean of
  Figures best;
  for (int round = 0; round < rounds; ++round) {
    roofline.measure();
    std::vector<Moment> at = run(engine, 1, prompt, 1);
    see(best.prefill, at[0], at[1], 1);
    for (size_t b = 0; b < std::size(kBatches); ++b) {
      roofline.measure();
      at = run(engine, kBatches[b], 16, kDecoded);
      for (size_t i = 2; i + kWindow < at.size(); ++i) see(best.decode[b], at[i], at[i + kWindow], kWindow);
    }
  }
  return best;
}

void print_line(std::string_view name, double tokens, double bytes, double flops, const Best& best, int threads,
                const Roofline& roofline) {
  double processor_s = best.processor_s / threads;
  fmt::print(
      "{:<16} {:7.1f} tokens/s {:4.0f} % of bandwidth {:4.0f} % of FMA peak | processor time: {:7.1f} tokens/s "
      "{:4.0f} % {:4.0f} %\n",
      name, tokens / best.clock_s, 100 * bytes / best.clock_s / roofline.bytes_per_second(),
      100 * flops / best.clock_s / roofline.flops(), tokens / processor_s,
      100 * bytes / processor_s / roofline.bytes_per_processor_second(),
      100 * flops / processor_s / roofline.flops_per_processor_second());
}

void print(const Figures& best, const Work& work, int threads, const Roofline& roofline, int32_t prompt) {
  fmt::print("ceilings: read {:.1f} GB/s, FMA {:.1f} GFLOP/s | processor time: {:.1f} GB/s, {:.1f} GFLOP/s\n",
             roofline.bytes_per_second() / 1e9, roofline.flops() / 1e9, roofline.bytes_per_processor_second() / 1e9,
             roofline.flops_per_processor_second() / 1e9);
  double bytes = work.layer_bytes + work.head_bytes;
  print_line(fmt::format("prefill {}", prompt), prompt, bytes, 2 * (work.layer_weights * prompt + work.head_weights),
             best.prefill, threads, roofline);
  for (size_t b = 0; b < std::size(kBatches); ++b) {
    print_line(fmt::format("decode, batch {}", kBatches[b]), kBatches[b], bytes,
               2 * (work.layer_weights + work.head_weights) * kBatches[b], best.decode[b], threads, roofline);
  }
}

int main_of(const char* directory, int threads, int rounds, int32_t prompt) {
  auto config = parse_model_config(directory);
  if (!config.ok()) {
    fmt::print(stderr, "{}\n", config.error().message);
    return 1;
  }
  EngineOptions options;
  options.model_path = directory;
  options.load_format = "dummy";
  options.threads = threads;
  options.context_length = 2048;
  options.max_running_requests = 8;
  options.max_total_tokens = 8 * 2048;
  options.chunked_prefill_size = prompt;
  auto engine = Engine::start(options);
  if (!engine.ok()) {
    fmt::print(stderr, "{}\n", engine.error().message);
    return 1;
  }
  cpu::ThreadPool pool(threads);
  Roofline roofline(pool);
  Figures best = measure(**engine, roofline, rounds, prompt);
  print(best, work_of(*config), threads, roofline, prompt);
  (*engine)->drain(0);
  return 0;
}

}  // namespace
}  // namespace hylas::bench

int main(int argc, char** argv) {
  int threads = argc > 2 ? std::atoi(argv[2]) : static_cast<int>(std::thread::hardware_concurrency());
  return hylas::bench::main_of(argc > 1 ? argv[1] : "models/configs/qwen3.5-0.8b", threads,
                               argc > 3 ? std::atoi(argv[3]) : 5, argc > 4 ? std::atoi(argv[4]) : 512);
}
