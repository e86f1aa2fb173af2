#pragma once
// What the command line says about serving. Plain values, filled in by the app.
#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/request.h"

namespace hylas {

struct ServeOptions {
  std::string model_name;         // in replies and metrics
  std::string model_path;         // for /model_info
  std::string api_key;            // empty: open to all
  SamplingParams defaults;        // generation_config.json's
  bool reasoning_parser = false;  // qwen3
  bool tool_call_parser = false;  // qwen3_coder
  bool enable_metrics = false;
  bool incremental_streaming_output = false;  // /generate streams pieces instead of the text so far
  std::optional<uint64_t> random_seed;        // start of the seeds of requests without one
  int text_threads = 2;
  size_t requests_max = 8192;        // HTTP requests that wait for a text worker
  boost::json::object command_line;  // for /server_info
};

}  // namespace hylas
