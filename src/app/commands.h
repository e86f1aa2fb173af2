#pragma once
// The sub-commands of hylas, one file cmd_<name>.cc each; main.cc lists them.
//
// add_<name> adds the sub-command with its options to `app`. Its CLI11 callback only sets `action`, which main runs
// once the whole command line has been read, and whose result is the exit code:
//
//   void add_logits(CLI::App& app, Action& action) {
//     auto options = std::make_shared<LogitsOptions>();
//     CLI::App* command = app.add_subcommand("logits", "Writes the logits of a prompt to a file");
//     add_engine_options(*command, options->common);        // options.h: the model, its memory, all parallel flags
//     command->add_option("--out", options->out, "...");
//     command->callback([options, &action] { action = [options] { return run_logits(*options); }; });
//   }
//
// run_logits starts with check_engine_options(options->common), which refuses what this build cannot do, and leaves
// every error to fail(): it prints the line and gives the exit code.
#include <functional>

#include "base/result.h"

namespace CLI {
class App;
}

namespace hylas {

inline constexpr const char* kVersion = "0.1.0";

using Action = std::function<int()>;

void add_serve(CLI::App& app, Action& action);
void add_router(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_logits(CLI::App& app, Action& action);
void add_quantize(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);

// 0 done, 1 failed at run time, 2 wrong usage, 3 a model or layout that this configuration cannot take.
int exit_code(ErrorCode code);
// Prints "hylas: <message>" on stderr; the exit code.
int fail(const Error& error);

}  // namespace hylas
