// hylas bench serve: latency and throughput of a running server.
#include <CLI/CLI.hpp>
#include <memory>

#include "app/bench_commands.h"
#include "app/bench_run.h"
#include "evaluate/token_stream.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas bench serve --num-prompts 200 --random-input-len 512 --random-output-len 128 --random-range-ratio 1
  hylas bench serve --num-prompts 200 --sweep max-concurrency=1,4,16,64 --plot latency.svg --output-file latency.json
  hylas bench serve --backend openai --base-url http://gpu7:8000 --vocab-size 151936 --request-rate 4
Requests are greedy and streamed. TTFT, ITL, TPOT and E2E are measured as SGLang's bench_serving does.
Exit code 1 if a request failed; the others are shown nevertheless.)";

struct ServeBenchOptions {
  BenchOptions bench;
  std::string base_url = "http://127.0.0.1:30000";
  std::string backend = "hylas";  // hylas | openai
  int32_t vocab_size = 0;
  double timeout_s = 1800;
};

Status bench(const ServeBenchOptions& options) {
  HYLAS_TRY(bench_points(options.bench));
  HYLAS_ASSIGN(BaseUrl url, parse_base_url(options.base_url));
  HttpClient client(url, int64_t(options.timeout_s * 1e6));
  HYLAS_ASSIGN(Target target, find_target(client, options.backend == "hylas" ? "generate" : "completions"));
  int32_t vocabulary = options.vocab_size;
  if (vocabulary == 0 && options.bench.dataset == "random-ids") {
    HYLAS_ASSIGN(vocabulary, vocabulary_of(target));
  }
  boost::json::object subject{{"base_url", options.base_url}, {"backend", options.backend}};
  if (!target.model.empty()) subject["model"] = target.model;
  return run_bench(options.bench, vocabulary, std::move(subject),
                   [&](const Task& task) { return time_task(target, task); });
}

}  // namespace

void add_bench_serve(CLI::App& bench_command, Action& action) {
  auto options = std::make_shared<ServeBenchOptions>();
  CLI::App* command = bench_command.add_subcommand("serve", "Latency and throughput of a running server");
  add_bench_options(*command, options->bench);
  constexpr const char* kGroup = "Server";
  command->add_option("--base-url", options->base_url, "The server")->capture_default_str()->group(kGroup);
  command
      ->add_option("--backend", options->backend,
                   "hylas: /generate, SGLang's too; openai: /v1/completions with its first model")
      ->check(CLI::IsMember({"hylas", "openai"}))
      ->capture_default_str()
      ->group(kGroup);
  command->add_option("--vocab-size", options->vocab_size, "Random ids are below it; 0: what the server says")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command->add_option("--timeout", options->timeout_s, "Seconds to wait for the next token")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str()
      ->group(kGroup);
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = bench(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
