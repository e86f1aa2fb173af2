// hylas serve: the OpenAI-compatible server.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "app/commands.h"
#include "app/default_sampling.h"
#include "app/disaggregation_options.h"
#include "app/load_text.h"
#include "app/options.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/net.h"
#include "base/signals.h"
#include "base/thread.h"
#include "engine/node_worker.h"
#include "serve/api_server.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas serve --model-path ~/models/Qwen3.5-4B --reasoning-parser qwen3 --tool-call-parser qwen3_coder --enable-metrics
  hylas serve --model-path ~/models/Qwen3.5-35B-A3B-FP8 --host 0.0.0.0 --port 8000 --kv-cache-dtype fp8_e4m3
Then:
  curl localhost:30000/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64}'
SIGTERM or Ctrl-C lets running requests finish; a second one ends them at once.)";

HttpOptions http_options(const Options& options) {
  HttpOptions http;
  http.host = options.host;
  http.port = options.port;
  http.threads = options.http_threads;
  http.connections_max = size_t(options.connections_max);
  http.body_bytes_max = size_t(options.request_bytes_max);
  return http;
}

boost::json::object command_line(const Options& options) {
  const EngineOptions& engine = options.engine;
  return {{"version", kVersion},
          {"model_path", engine.model_path},
          {"load_format", engine.load_format},
          {"device", engine.device},
          {"chunked_prefill_size", engine.chunked_prefill_size},
          {"max_prefill_tokens", engine.max_prefill_tokens},
          {"mem_fraction_static", engine.mem_fraction_static},
          {"reasoning_parser", options.reasoning_parser},
          {"tool_call_parser", options.tool_call_parser},
          {"disable_radix_cache", true}};
}

Result<ServeOptions> serve_options(const Options& options, const EngineInfo& info) {
  ServeOptions serve;
  serve.model_name = options.served_model_name.empty() ? info.model_name : options.served_model_name;
  serve.model_path = options.engine.model_path;
  serve.api_key = options.api_key;
  HYLAS_ASSIGN(serve.defaults, default_sampling(options.engine.model_path));
  serve.reasoning_parser = !options.reasoning_parser.empty();
  serve.tool_call_parser = !options.tool_call_parser.empty();
  serve.enable_metrics = options.enable_metrics;
  serve.incremental_streaming_output = options.incremental_streaming_output;
  serve.random_seed = options.random_seed;
  int cores = int(std::thread::hardware_concurrency());
  serve.text_threads = options.text_threads > 0 ? options.text_threads : std::clamp(cores / 4, 2, 8);
  serve.command_line = command_line(options);
  return serve;
}

// Waits for the first signal, then stops; a second signal meanwhile ends what still runs.
void serve_until_signal(Engine& engine, ApiServer& server, double shutdown_timeout_s) {
  wait_for_stop_signal();
  log::info("stopping: {} requests may finish within {} s; a second signal ends them at once", engine.stats().running,
            shutdown_timeout_s);
  std::atomic<bool> stopped{false};
  auto second = start_thread("second signal", [&] {
    while (!stopped) {
      if (wait_for_stop_signal(50'000) != 0) engine.abort_all();
    }
  });
  server.stop(int64_t(shutdown_timeout_s * 1e6));
  stopped = true;
}

// What all nodes of an instance start their engines with.
EngineOptions engine_options_of(const Options& options, const TextModel& text) {
  EngineOptions engine = options.engine;
  engine.vocab_tokens = text.tokenizer->vocab_size();
  engine.bootstrap.host = options.host;
  return engine;
}

Status serve(const Options& options) {
  HYLAS_TRY(check_engine_options(options));
  block_stop_signals();
  int64_t started_us = now_us();
  if (options.engine.node_rank > 0) {  // node 0 alone speaks HTTP
    HYLAS_ASSIGN(TextModel text, load_text(options));
    return run_node(engine_options_of(options, text));
  }
  HYLAS_ASSIGN(auto http, HttpServer::bind(http_options(options)));  // first: a port in use shows at once
  HYLAS_ASSIGN(TextModel text, load_text(options));
  HYLAS_ASSIGN(auto engine, Engine::start(engine_options_of(options, text)));
  HYLAS_ASSIGN(ServeOptions serving, serve_options(options, engine->info()));
  std::string name = serving.model_name;
  ApiServer server(std::move(http), *engine, text, std::move(serving));
  HYLAS_TRY(server.start());
  log::info("serving {} on http://{} after {:.1f} s", name, to_string(HostPort{options.host, server.port()}),
            double(now_us() - started_us) * 1e-6);
  serve_until_signal(*engine, server, options.shutdown_timeout_s);
  log::info("stopped");
  return {};
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("serve", "Serves a model over HTTP: OpenAI's API and SGLang's /generate");
  add_engine_options(*command, *options);
  add_server_options(*command, *options);
  add_disaggregation_options(*command, options->engine);
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = serve(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
