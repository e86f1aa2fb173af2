// A whole dense model on the CPU, through the engine, with weights made up from its config.json: prefill of 512 tokens
// and decode at batch 1 and 8, beside the machine's ceilings measured between them in the same run. The share of the
// bandwidth counts the bytes of the weights that a step must read, the share of the FMA peak the multiply-adds of the
// weight matrices, and the output head once per sequence: attention and states are extra.
//   cpu_model_bench CONFIG_DIR [threads [rounds]]
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "model/manifest.h"
#include "roofline.h"

namespace hylas::bench {
namespace {

constexpr int32_t kPrompt = 512;
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

// One request of a batch: when its tokens came.
struct Arrivals {
  std::vector<int64_t> at_us;
  std::promise<void> done;
};

// `batch` equal requests at once; microseconds from the begin to each token that all of them have.
std::vector<int64_t> run(Engine& engine, int32_t batch, int32_t prompt, int32_t tokens) {
  std::vector<Arrivals> all(static_cast<size_t>(batch));
  int64_t begin = now_us();
  for (Arrivals& one : all) {
    Request request;
    for (int32_t i = 0; i < prompt; ++i) request.prompt.push_back(1000 + i * 7);
    request.sampling.temperature = 0;
    request.sampling.max_new_tokens = tokens;
    request.sampling.ignore_eos = true;
    engine
        .submit(std::move(request),
                [&one, begin](Output output) {
                  for (size_t i = 0; i < output.tokens.size(); ++i) one.at_us.push_back(now_us() - begin);
                  if (output.finish) one.done.set_value();
                })
        .value();
  }
  std::vector<int64_t> latest(static_cast<size_t>(tokens));
  for (Arrivals& one : all) {
    one.done.get_future().wait();
    for (size_t i = 0; i < latest.size(); ++i) latest[i] = std::max(latest[i], one.at_us.at(i));
  }
  return latest;
}

// The best of several rounds: a shared machine disturbs some.
struct Best {
  double prefill_s = 1e9;
  double decode_s[2] = {1e9, 1e9};  // a step, for each of kBatches
};
constexpr int32_t kBatches[] = {1, 8};

Best measure(Engine& engine, Roofline& roofline, int rounds) {
  constexpr size_t kWindow = 4;  // decode steps that one figure is the mean of
  Best best;
  for (int round = 0; round < rounds; ++round) {
    roofline.measure();
    best.prefill_s = std::min(best.prefill_s, static_cast<double>(run(engine, 1, kPrompt, 1)[0]) * 1e-6);
    for (size_t b = 0; b < std::size(kBatches); ++b) {
      roofline.measure();
      std::vector<int64_t> at = run(engine, kBatches[b], 16, kDecoded);
      for (size_t i = 1; i + kWindow < at.size(); ++i) {
        best.decode_s[b] = std::min(best.decode_s[b], static_cast<double>(at[i + kWindow] - at[i]) * 1e-6 / kWindow);
      }
    }
  }
  return best;
}

void print(const Best& best, const Work& work, const Roofline& roofline) {
  double flops = 2 * (work.layer_weights * kPrompt + work.head_weights);
  fmt::print("ceilings: read {:.1f} GB/s, FMA {:.1f} GFLOP/s\n", roofline.bytes_per_second() / 1e9,
             roofline.flops() / 1e9);
  fmt::print("prefill {} tokens: {:.1f} tokens/s, {:.1f} GFLOP/s, {:.0f} % of the FMA peak\n", kPrompt,
             kPrompt / best.prefill_s, flops / best.prefill_s / 1e9, 100 * flops / best.prefill_s / roofline.flops());
  for (size_t b = 0; b < std::size(kBatches); ++b) {
    double bytes = (work.layer_bytes + work.head_bytes) / best.decode_s[b];
    double operations = 2 * (work.layer_weights + work.head_weights) * kBatches[b] / best.decode_s[b];
    fmt::print("decode, batch {}: {:.1f} tokens/s, {:.1f} GB/s, {:.0f} % of the bandwidth, {:.0f} % of the FMA peak\n",
               kBatches[b], kBatches[b] / best.decode_s[b], bytes / 1e9, 100 * bytes / roofline.bytes_per_second(),
               100 * operations / roofline.flops());
  }
}

int main_of(const char* directory, int threads, int rounds) {
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
  options.chunked_prefill_size = kPrompt;
  auto engine = Engine::start(options);
  if (!engine.ok()) {
    fmt::print(stderr, "{}\n", engine.error().message);
    return 1;
  }
  cpu::ThreadPool pool(threads);
  Roofline roofline(pool);
  Best best = measure(**engine, roofline, rounds);
  print(best, work_of(*config), roofline);
  (*engine)->drain(0);
  return 0;
}

}  // namespace
}  // namespace hylas::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: cpu_model_bench CONFIG_DIR [threads [rounds]]\n");
    return 2;
  }
  int threads = argc > 2 ? std::atoi(argv[2]) : static_cast<int>(std::thread::hardware_concurrency());
  return hylas::bench::main_of(argv[1], threads, argc > 3 ? std::atoi(argv[3]) : 5);
}
