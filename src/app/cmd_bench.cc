// hylas bench: latency and throughput.
#include <CLI/CLI.hpp>

#include "app/bench_commands.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas bench serve --num-prompts 200 --random-input-len 512 --random-output-len 128
  hylas bench offline --model-path models/hylas-tiny --num-prompts 64 --random-input-len 256 --random-output-len 64
  hylas bench simulate --model qwen3.5-397b-a17b-fp8
`hylas bench COMMAND --help` lists a command's options. docs/benchmarking.md and docs/simulator.md explain them.)";

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* bench = app.add_subcommand("bench", "Measures latency and throughput");
  bench->footer(kExamples);
  bench->require_subcommand(1);
  add_bench_serve(*bench, action);
  add_bench_offline(*bench, action);
  add_bench_simulate(*bench, action);
}

}  // namespace hylas
