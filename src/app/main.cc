// hylas: one program, a sub-command for each job.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/options.h"
#include "app/unavailable.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas serve --model-path ~/models/Qwen3.5-0.8B --reasoning-parser qwen3 --tool-call-parser qwen3_coder
  hylas generate --model-path ~/models/Qwen3.5-0.8B --chat --prompt "Why is the sky blue?"
`hylas COMMAND --help` lists a command's options. Any option can come from the environment: HYLAS_PORT=8000 sets --port.
Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 3 a model or layout that this build cannot take.)";

int usage_error(const std::string& message) { return fail(Error{ErrorCode::kInvalid, message}); }

int unknown_argument(const CLI::App& command) {
  std::string name = command.get_name();
  if (const CLI::App* outer = command.get_parent(); outer->get_parent()) name = outer->get_name() + " " + name;
  for (const std::string& argument : command.remaining()) {
    if (!argument.starts_with("-")) continue;
    std::string flag = argument.substr(0, argument.find('='));
    if (flag.starts_with("--speculative-")) {
      return fail(error(ErrorCode::kUnsupported, "{}: {}", flag, kNoSpeculation));
    }
    std::string near = nearest_flag(command, flag);
    return usage_error(fmt::format("{} has no option {}{}; see hylas {} --help", name, flag,
                                   near.empty() ? "" : fmt::format(", did you mean {}?", near), name));
  }
  return usage_error(
      fmt::format("{} takes no argument '{}'; see hylas {} --help", name, command.remaining().front(), name));
}

const CLI::App* find_command(const CLI::App& among, const std::string& name) {
  for (const CLI::App* command : among.get_subcommands(nullptr)) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

// `hylas bench`, or `hylas bench srve`: only a command of `outer` can follow.
int unknown_inner(const CLI::App& outer, const std::vector<std::string>& arguments) {
  const std::string& name = outer.get_name();
  std::string known;
  for (const CLI::App* inner : outer.get_subcommands(nullptr)) known += (known.empty() ? "" : ", ") + inner->get_name();
  const std::string what = arguments.size() < 2 ? fmt::format("{} needs a command", name)
                                                : fmt::format("there is no command '{} {}'", name, arguments[1]);
  return usage_error(fmt::format("{}: {}; see hylas {} --help", what, known, name));
}

// Options from the environment, put behind the name of the command that takes them: `serve`, or the `gsm8k` of
// `eval gsm8k`.
void add_environment(const CLI::App& app, std::vector<std::string>& arguments) {
  const CLI::App* command = nullptr;
  size_t names = 0;
  while (names < arguments.size()) {
    const CLI::App* inner = find_command(command ? *command : app, arguments[names]);
    if (!inner) break;
    command = inner;
    ++names;
  }
  if (!command) return;
  std::vector<std::string> more = environment_arguments(*command, arguments);
  arguments.insert(arguments.begin() + std::ptrdiff_t(names), more.begin(), more.end());
}

int run(std::vector<std::string> arguments) {
  CLI::App app("LLM serving for the Qwen3.5 architecture", "hylas");
  Action action;
  app.set_version_flag("--version", std::string("hylas ") + kVersion);
  app.footer(kExamples);
  app.require_subcommand(1);
  add_serve(app, action);
  add_router(app, action);
  add_generate(app, action);
  add_logits(app, action);
  add_quantize(app, action);
  add_plan(app, action);
  add_eval(app, action);
  add_bench(app, action);
  for (CLI::App* command : app.get_subcommands(nullptr)) {
    command->allow_extras();
    for (CLI::App* inner : command->get_subcommands(nullptr)) inner->allow_extras();
  }

  if (arguments.empty()) arguments.push_back("--help");
  const CLI::App* outer = find_command(app, arguments.front());
  if (!outer && !arguments.front().starts_with("-")) {
    return usage_error(fmt::format("there is no command '{}'; see hylas --help", arguments.front()));
  }
  if (outer && !outer->get_subcommands(nullptr).empty()) {
    const bool is_known = arguments.size() > 1 && (arguments[1].starts_with("-") || find_command(*outer, arguments[1]));
    if (!is_known) return unknown_inner(*outer, arguments);
  }
  add_environment(app, arguments);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& problem) {
    return usage_error(problem.what());
  }
  for (const CLI::App* command : app.get_subcommands()) {
    if (!command->get_subcommands().empty()) command = command->get_subcommands().front();
    if (!command->remaining().empty()) return unknown_argument(*command);
  }
  return action();
}

}  // namespace
}  // namespace hylas

int main(int argc, char** argv) { return hylas::run({argv + 1, argv + argc}); }
