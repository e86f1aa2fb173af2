// One layout of GPUs under load, with made-up weights, without server and text; prints one line of JSON.
//   gpu_layout_bench CONFIG_DIR LAYOUT [--chunk N] [--prompts N,N...] [--concurrency N] [--input N] [--output N]
//                    [--disable-cuda-graph] [--device cpu]
// LAYOUT: "tp2", "pp4tp2", "tp8ep8dp4"; or "pp4tp2>tp4": the first GPUs compute prompts, in a process of their own, and
// the next ones the rest, each request at both from the beginning; times are those of its tokens. The seed's settings:
// FP8 KV, float16 state, pages of 64, no reuse of prefixes. With several numbers of prompts one load after the other, a
// line for each.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
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
  // `first`: where the first one's prompt is computed, the next rooms are the others'; none: here.
  Run(Engine& engine, const Workload& load, uint32_t seed, const std::optional<Bootstrap>& first)
      : times_(load.prompts) {
    std::mt19937 random(seed);
    begin_us_ = now_us();
    for (int32_t i = 0; i < load.prompts; ++i) {
      Request request = random_request(random, engine.info(), load.input, load.output);
      if (first) request.bootstrap = {first->prefill, first->room + static_cast<uint64_t>(i)};
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

// Of the stages, what they did between two snapshots.
boost::json::object shares_of(const EngineStats& before, const EngineStats& after) {
  boost::json::array bubbles, sums;
  for (size_t s = 0; s < after.stages.size(); ++s) {
    const StageStats &begin = before.stages[s], &end = after.stages[s];
    const StageStats of_run{end.busy_us - begin.busy_us, end.sums_us - begin.sums_us, end.active_us - begin.active_us};
    bubbles.push_back(of_run.bubble_ratio());
    sums.push_back(static_cast<double>(of_run.sums_us) / static_cast<double>(std::max<int64_t>(of_run.busy_us, 1)));
  }
  return {{"bubble_ratio", bubbles}, {"sums_of_busy", sums}};
}

void print_run(const Run& run, const Workload& load, boost::json::object line) {
  const std::vector<double> ttfts = run.ttfts();
  line["prompts"] = load.prompts;
  line["duration_s"] = run.seconds();
  line["tokens_per_s"] = load.prompts * static_cast<double>(load.input + load.output) / run.seconds();
  line["ttft_mean_s"] = mean(ttfts);
  line["ttft_p50_s"] = ttfts[ttfts.size() / 2];
  line["ttft_p99_s"] = ttfts[ttfts.size() * 99 / 100];
  if (load.output > 1) line["tpot_ms"] = run.tpot_ms(load.output);
  fmt::print("{}\n", boost::json::serialize(line));
  std::fflush(stdout);
}

// The process that computes prompts, over two pipes: lines there and back.
class Prefill {
 public:
  // Before this process has threads. `body` gets what this process writes and reads.
  template <class Body>
  explicit Prefill(const Body& body) {
    int there[2], back[2];
    HYLAS_CHECK(pipe(there) == 0 && pipe(back) == 0);
    pid_ = fork();
    HYLAS_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      close(there[1]);
      close(back[0]);
      _exit(body(fdopen(there[0], "r"), fdopen(back[1], "w")));
    }
    close(there[0]);
    close(back[1]);
    to_ = fdopen(there[1], "w");
    from_ = fdopen(back[0], "r");
  }
  // It ends at the end of its input.
  ~Prefill() {
    std::fclose(to_);
    waitpid(pid_, nullptr, 0);
    std::fclose(from_);
  }
  void say(const std::string& line) { write_line(to_, line); }
  // Nothing: it has ended.
  std::optional<std::string> hear() { return read_line(from_); }

  static void write_line(std::FILE* to, const std::string& line) {
    fmt::print(to, "{}\n", line);
    std::fflush(to);
  }
  static std::optional<std::string> read_line(std::FILE* from) {
    std::string line;
    for (int c = std::fgetc(from); c != EOF; c = std::fgetc(from)) {
      if (c == '\n') return line;
      line.push_back(static_cast<char>(c));
    }
    return {};
  }

 private:
  pid_t pid_ = -1;
  std::FILE *to_ = nullptr, *from_ = nullptr;
};

// The loads in their order, the first one to warm up. Each begins with a room behind the last one's.
struct Loads {
  Workload each;
  std::vector<int32_t> prompts;

  size_t size() const { return prompts.size() + 1; }
  Workload load(size_t i) const {
    Workload load = each;
    load.prompts = i == 0 ? 8 : prompts[i - 1];
    if (i == 0) load.output = std::min(load.output, 8);
    return load;
  }
  uint32_t seed(size_t i) const { return i == 0 ? 1 : 2; }
  std::optional<Bootstrap> rooms(size_t i, uint16_t port) const {
    if (port == 0) return {};
    uint64_t room = 1;
    for (size_t j = 0; j < i; ++j) room += static_cast<uint64_t>(load(j).prompts);
    return Bootstrap{{"127.0.0.1", port}, room};
  }
};

std::unique_ptr<Engine> start(const EngineOptions& options, const char* layout) {
  auto started = Engine::start(options);
  if (!started.ok()) fmt::print(stderr, "{}: {}\n", layout, started.error().message);
  return started.ok() ? *std::move(started) : nullptr;
}

int run_prefill(EngineOptions options, const char* layout, const Loads& loads, std::FILE* from, std::FILE* to) {
  options.role = InstanceRole::kPrefill;
  options.bootstrap.port = 0;
  const std::unique_ptr<Engine> engine = start(options, layout);
  if (!engine) return 1;
  const uint16_t port = engine->info().bootstrap_port;
  Prefill::write_line(to, std::to_string(port));
  for (size_t i = 0; i < loads.size() && Prefill::read_line(from); ++i) {
    const EngineStats before = engine->stats();
    Run(*engine, loads.load(i), loads.seed(i), loads.rooms(i, port));
    Prefill::write_line(to, boost::json::serialize(shares_of(before, engine->stats())));
  }
  Prefill::read_line(from);
  engine->drain(0);
  return 0;
}

// `prefill`: null, or where prompts are computed.
int run_loads(EngineOptions options, const char* layout, const Loads& loads, Prefill* prefill, int32_t gpus) {
  uint16_t port = 0;
  const int64_t begin_us = now_us();
  if (prefill) options.role = InstanceRole::kDecode;
  const std::unique_ptr<Engine> engine = start(options, layout);
  if (!engine) return 1;
  if (prefill) {
    const std::optional<std::string> line = prefill->hear();
    if (!line) return 1;  // it has said why
    port = static_cast<uint16_t>(std::atoi(line->c_str()));
  }
  const double start_s = static_cast<double>(now_us() - begin_us) * 1e-6;
  for (size_t i = 0; i < loads.size(); ++i) {
    if (prefill) prefill->say("go");
    const EngineStats before = engine->stats();
    const Run run(*engine, loads.load(i), loads.seed(i), loads.rooms(i, port));
    boost::json::object line = {
        {"layout", layout}, {"gpus", gpus}, {"chunk", options.chunked_prefill_size}, {"start_s", start_s}};
    for (auto& [name, values] : shares_of(before, engine->stats())) line[name] = values;
    if (prefill) {
      const std::optional<std::string> said = prefill->hear();
      HYLAS_CHECK(said.has_value(), "the prefilling process has ended");
      boost::json::object stages = boost::json::parse(*said).as_object();
      for (auto& [name, values] : stages) {  // its stages before the decoding ones
        for (const auto& value : line[name].as_array()) values.as_array().push_back(value);
        line[name] = values;
      }
    }
    if (i > 0) print_run(run, loads.load(i), std::move(line));
  }
  engine->drain(0);
  return 0;
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
  const std::string layout = arguments[2];
  const size_t arrow = layout.find('>');
  const auto first = parse_layout(layout.substr(0, arrow));
  const auto second = arrow == std::string::npos ? first : parse_layout(layout.substr(arrow + 1));
  for (const auto* sizes : {&first, &second}) {
    if (sizes->ok()) continue;
    fmt::print(stderr, "{}\n", sizes->error().message);
    return 2;
  }
  Loads loads;
  loads.prompts = {loads.each.prompts};
  if (char** found = given("--prompts"); found + 1 < arguments + count) loads.prompts = numbers_of(found[1]);
  loads.each.concurrency = number("--concurrency", loads.each.concurrency);
  loads.each.input = number("--input", loads.each.input);
  loads.each.output = number("--output", loads.each.output);
  const auto options_of = [&](const ParallelSizes& sizes) {
    EngineOptions options = gpu_engine_options(arguments[1]);
    options.context_length = loads.each.input + loads.each.output + 1;
    options.chunked_prefill_size = options.max_prefill_tokens = number("--chunk", 16384);
    options.parallel = sizes;
    options.enable_dp_attention = sizes.dp > 1;
    options.disable_cuda_graph = given("--disable-cuda-graph") != arguments + count;
    if (char** found = given("--device"); found + 1 < arguments + count) options.device = found[1];
    return options;
  };
  EngineOptions options = options_of(*second);
  if (arrow == std::string::npos) return run_loads(options, arguments[2], loads, nullptr, first->world());
  if (options.device == "cuda") options.base_gpu_id = first->world();
  Prefill prefill(
      [&](std::FILE* from, std::FILE* to) { return run_prefill(options_of(*first), arguments[2], loads, from, to); });
  return run_loads(options, arguments[2], loads, &prefill, first->world() + second->world());
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) { return hylas::main_of(count, arguments); }
