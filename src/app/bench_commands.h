#pragma once
// The commands of `hylas bench`.
#include "app/commands.h"

namespace hylas {

void add_bench_serve(CLI::App& bench_command, Action& action);
void add_bench_offline(CLI::App& bench_command, Action& action);
void add_bench_simulate(CLI::App& bench_command, Action& action);

}  // namespace hylas
