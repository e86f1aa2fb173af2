#pragma once
// The command line's options: SGLang's flag names where the meaning is the same. One struct for all sub-commands; each
// adds the groups it takes. An environment variable HYLAS_<FLAG> (HYLAS_PAGE_SIZE for --page-size) supplies a default.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace CLI {
class App;
}

namespace hylas {

struct Options {
  EngineOptions engine;  // -1 and 0: chosen by the engine
  bool disable_radix_cache = false;
  std::vector<std::string> mapped;  // flags that have one answer here, with it
  std::optional<Error> refused;     // a flag of a part that this build does not have: the first one seen

  std::string host = "127.0.0.1";
  uint16_t port = 30000;
  std::string served_model_name;  // empty: the engine's
  std::string api_key;            // empty: open to all
  std::string chat_template;      // a file; empty: the checkpoint's own
  std::string reasoning_parser;   // "" | "qwen3"
  std::string tool_call_parser;   // "" | "qwen3_coder"
  bool enable_metrics = false;
  bool incremental_streaming_output = false;
  std::optional<uint64_t> random_seed;  // of requests without a seed; none: a new one every start
  int32_t http_threads = 1;
  int32_t text_threads = 0;  // 0: chosen from the number of cores
  int32_t connections_max = 4096;
  int64_t request_bytes_max = int64_t{64} << 20;
  double shutdown_timeout_s = 180;
  std::string log_level = "info";
};

// The model, its memory and schedule, and the parallel flags. For every command that loads a model.
void add_engine_options(CLI::App& command, Options& options);
// Address, names, parsers, limits of `hylas serve`.
void add_server_options(CLI::App& command, Options& options);

// kNotFound: nothing lies there.
Status check_model_path(const std::string& path);

// kUnsupported: a flag asked for something that this build does not have (says which); kInvalid: flags that contradict
// each other. Sets the log level, and says on stderr what follows from flags without an effect here.
Status check_engine_options(const Options& options);

// "--page-size=128" for each environment variable HYLAS_<FLAG> that names a flag of `command` not in `arguments`.
// Each is printed on stderr, but not the value of a secret.
std::vector<std::string> environment_arguments(const CLI::App& command, const std::vector<std::string>& arguments);

// The flag of `command` nearest to `unknown` in spelling, or nothing if none is near.
std::string nearest_flag(const CLI::App& command, const std::string& unknown);

}  // namespace hylas
