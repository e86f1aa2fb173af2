// hylas bench: latency and throughput.
#include <CLI/CLI.hpp>

#include "app/bench_commands.h"

namespace hylas {

void add_bench(CLI::App& app, Action& action) {
  CLI::App* bench = app.add_subcommand("bench", "Measures latency and throughput");
  bench->require_subcommand(1);
  add_bench_serve(*bench, action);
  add_bench_offline(*bench, action);
  add_bench_simulate(*bench, action);
}

}  // namespace hylas
