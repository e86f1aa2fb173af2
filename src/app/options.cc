#include "app/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <tuple>

#include "app/mapped_flags.h"
#include "app/node_options.h"
#include "app/unavailable.h"
#include "base/log.h"

namespace hylas {
namespace {

CLI::Validator one_of(std::vector<std::string> values) { return CLI::IsMember(std::move(values)); }

void add_model_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "Model";
  command.add_option("--model-path,--model", engine.model_path, "Folder of a Hugging Face checkpoint")
      ->required()
      ->group(kGroup);
  command.add_option("--load-format", engine.load_format, "auto, or dummy: made-up weights from config.json alone")
      ->check(one_of({"auto", "dummy"}))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--device", engine.device, "Where the model runs")
      ->check(one_of({"cpu", "cuda"}))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--base-gpu-id", engine.base_gpu_id, "GPU of the first rank; the other ranks take those after it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--dtype", engine.dtype, "Of activations and unquantized weights; auto: the checkpoint's")
      ->check(one_of({"auto", "bfloat16", "float32"}))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--context-length", engine.context_length, "Tokens of prompt and reply; 0: the model's")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--threads", engine.threads, "CPU threads; 0: one for each core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--isa", engine.isa, "Widest vector instructions to use")
      ->check(one_of({"auto", "scalar", "avx2", "avx512"}))
      ->capture_default_str()
      ->group(kGroup);
}

void add_memory_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "Memory";
  command
      .add_option("--mem-fraction-static", engine.mem_fraction_static,
                  "Share of the memory that weights leave, for KV cache and states; 0: chosen")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--max-total-tokens", engine.max_total_tokens, "KV cache tokens; 0: what the memory holds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--max-running-requests", engine.max_running_requests, "Sequences at a time; 0: what memory holds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--page-size", engine.page_size, "Tokens of a KV cache page")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--kv-cache-dtype", engine.kv_cache_dtype, "Of the KV cache")
      ->check(one_of({"auto", "bfloat16", "fp8_e4m3"}))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--mamba-ssm-dtype", engine.state_dtype, "Of the Gated DeltaNet states; auto: the config's")
      ->check(one_of({"auto", "float32", "float16", "bfloat16"}))
      ->capture_default_str()
      ->group(kGroup);
}

void add_schedule_options(CLI::App& command, Options& options) {
  constexpr const char* kGroup = "Schedule";
  command
      .add_option("--chunked-prefill-size", options.engine.chunked_prefill_size,
                  "New tokens of a prefill step, a multiple of 64; -1: chosen")
      ->check(CLI::Range(-1, 1 << 24))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--max-prefill-tokens", options.engine.max_prefill_tokens, "Prompt tokens of a prefill batch")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--disable-radix-cache", options.disable_radix_cache,
                "No reuse of prefixes: what this build does anyway")
      ->group(kGroup);
}

void add_graph_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "CUDA graphs (of decode steps, with --device cuda)";
  command.add_option("--cuda-graph-bs", engine.cuda_graph_rows, "Numbers of sequences with a graph; others are padded")
      ->check(CLI::Range(1, 1 << 16))
      ->take_all()
      ->group(kGroup);
  command.add_option("--cuda-graph-max-bs", engine.cuda_graph_rows_max, "No graph for more sequences than these")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str()
      ->group(kGroup);
  command.add_flag("--disable-cuda-graph", engine.disable_cuda_graph, "Launches every operator of every step")
      ->group(kGroup);
}

void add_kernel_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "CUDA kernels (with --device cuda)";
  command
      .add_option("--fp8-gemm-backend,--fp8-gemm-runner-backend", engine.fp8_gemm_backend,
                  "Products of FP8 weights: deep_gemm, with activations in FP8 too; hylas: in bf16; auto: deep_gemm")
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--moe-runner-backend", engine.moe_runner_backend, "The same for experts")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--linear-attn-backend", engine.linear_attn_backend,
                  "Delta rule of prompts: flashinfer | hylas; auto: flashinfer")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--prefill-attention-backend", engine.prefill_attention_backend,
                  "Attention of prompts: fa3 | hylas; auto: fa3")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--disable-row-launch", engine.disable_row_launch,
                "A decode step of one sequence by an operator each, not several layers at once (where shapes allow it)")
      ->group(kGroup);
}

void add_parallel_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "Parallel";
  ParallelSizes& sizes = engine.parallel;
  const auto size = [&](const char* names, int32_t& value, const char* help) {
    command.add_option(names, value, help)->check(CLI::Range(1, 4096))->capture_default_str()->group(kGroup);
  };
  size("--tp-size,--tensor-parallel-size,--tp", sizes.tp, "Ranks that share each layer: heads, FFN rows, vocabulary");
  size("--pp-size,--pipeline-parallel-size,--pp", sizes.pp, "Pipeline stages, each with its own layers");
  size("--ep-size,--expert-parallel-size,--ep", sizes.ep, "Groups that the experts are spread over; divides tp");
  size("--dp-size,--data-parallel-size,--dp", sizes.dp,
       "Groups of sequences with an attention of their own; divides tp, needs --enable-dp-attention");
  command
      .add_flag("--enable-dp-attention", engine.enable_dp_attention,
                "Splits attention over tp / dp ranks, and sequences over the dp groups")
      ->group(kGroup);
  command
      .add_option("--pp-layer-partition", engine.pp_layer_partition,
                  "Layers of each stage: 15,15,15,15; else balanced by their cost")
      ->group(kGroup);
  command
      .add_option("--pp-async-batch-depth", engine.pp_async_batch_depth,
                  "Steps planned beyond one for each stage; -1: chosen (1)")
      ->check(CLI::Range(-1, 64))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--pp-max-micro-batch-size", engine.pp_max_micro_batch_size,
                  "Most decoding sequences of a step in each dp group; 0: each stage's share")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--enable-dynamic-chunking", engine.enable_dynamic_chunking,
                "Prefill chunks shrink as their prefix grows, so that steps take equal time")
      ->group(kGroup);
  command
      .add_option("--ep-dispatch-tokens", engine.ep_dispatch_tokens,
                  "Tokens that a rank sends to other ranks' experts at a time; 0: 128 on a CPU, 2048 on a GPU")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str()
      ->group(kGroup);
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

// Variables that supply a flag's default, the first one set wins: hylas' own, and what SGLang calls it.
std::vector<std::string> environment_names(const std::string& flag) {
  std::string name = "HYLAS_" + flag;
  for (char& c : name) c = c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
  std::vector<std::string> names = {name};
  if (flag == "pp-layer-partition") names.push_back("SGLANG_PP_LAYER_PARTITION");
  if (flag == "ep-dispatch-tokens") names.push_back("SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK");
  return names;
}

bool given(const CLI::Option& option, const std::vector<std::string>& arguments) {
  auto names_it = [&](const std::string& argument) {
    return argument.starts_with("--") && option.check_lname(argument.substr(2, argument.find('=') - 2));
  };
  return std::any_of(arguments.begin(), arguments.end(), names_it);
}

}  // namespace

void add_engine_options(CLI::App& command, Options& options) {
  command.option_defaults()->take_last();  // of a repeated option the last one counts
  add_model_options(command, options.engine);
  add_memory_options(command, options.engine);
  add_schedule_options(command, options);
  add_parallel_options(command, options.engine);
  add_graph_options(command, options.engine);
  add_kernel_options(command, options.engine);
  add_node_options(command, options.engine);
  add_mapped_flags(command, options.mapped);
  command.add_option("--log-level", options.log_level, "How much is logged to stderr")
      ->check(one_of({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str()
      ->group("Log");
  add_unavailable_flags(command, options.refused);
}

void add_server_options(CLI::App& command, Options& options) {
  constexpr const char* kGroup = "Server";
  command.add_option("--host", options.host, "Address to listen on; 0.0.0.0: all")
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--port", options.port, "Port to listen on")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--served-model-name", options.served_model_name, "Name in replies; else the folder's")
      ->group(kGroup);
  command.add_option("--api-key", options.api_key, "Ask every client for this key (Authorization: Bearer)")
      ->group(kGroup);
  command.add_option("--chat-template", options.chat_template, "A Jinja file instead of the checkpoint's own")
      ->check(CLI::ExistingFile)
      ->group(kGroup);
  command
      .add_option("--reasoning-parser", options.reasoning_parser, "Splits <think>..</think> off as reasoning_content")
      ->check(one_of({"qwen3"}))
      ->group(kGroup);
  command.add_option("--tool-call-parser", options.tool_call_parser, "Turns tool calls in the text into tool_calls")
      ->check(one_of({"qwen3_coder"}))
      ->group(kGroup);
  command.add_flag("--enable-metrics", options.enable_metrics, "Prometheus metrics under /metrics")->group(kGroup);
  command
      .add_flag("--incremental-streaming-output", options.incremental_streaming_output,
                "/generate streams pieces, not the whole text so far each time")
      ->group(kGroup);
  command.add_option("--random-seed", options.random_seed, "Start of the seeds of requests that bring none")
      ->group(kGroup);
  command.add_option("--http-threads", options.http_threads, "Threads for sockets")
      ->check(CLI::Range(1, 16))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--text-threads", options.text_threads, "Threads for tokenizing and templates; 0: chosen")
      ->check(CLI::Range(0, 64))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--max-connections", options.connections_max, "Open connections at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--max-request-bytes", options.request_bytes_max, "Longest request body")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--shutdown-timeout", options.shutdown_timeout_s, "Seconds that running requests get on SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
}

Status check_model_path(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return {};
  return error(ErrorCode::kNotFound,
               "--model-path {}: there is no such folder; nothing is downloaded, name the folder of a checkpoint",
               path);
}

Status check_engine_options(const Options& options) {
  if (options.refused) return *options.refused;
  const EngineOptions& engine = options.engine;
  if (!engine.model_path.empty()) HYLAS_TRY(check_model_path(engine.model_path));
  if (engine.chunked_prefill_size == 0 || (engine.chunked_prefill_size > 0 && engine.chunked_prefill_size % 64 != 0)) {
    return error(ErrorCode::kInvalid, "--chunked-prefill-size {} is not a multiple of 64", engine.chunked_prefill_size);
  }
  HYLAS_CHECK(log::init(options.log_level), "--log-level {}", options.log_level);
  for (const std::string& line : options.mapped) log::info("{}", line);
  if (engine.device == "cpu" && !engine.cuda_graph_rows.empty()) {
    log::info("--cuda-graph-bs changes nothing: steps on a CPU are not recorded");
  }
  const std::tuple<const char*, std::string, const char*> backends[] = {
      {"--fp8-gemm-backend", engine.fp8_gemm_backend, "deep_gemm"},
      {"--moe-runner-backend", engine.moe_runner_backend, "deep_gemm"},
      {"--linear-attn-backend", engine.linear_attn_backend, "flashinfer"},
      {"--prefill-attention-backend", engine.prefill_attention_backend, "fa3"}};
  for (const auto& [flag, backend, library] : backends) {
    if (backend == "auto" || backend == "hylas" || (backend == library && engine.device == "cuda")) continue;
    log::info("{} {}: {} is used", flag, backend, engine.device == "cuda" ? library : "this processor's kernel");
  }
  if (options.disable_radix_cache) log::info("--disable-radix-cache changes nothing: there is no prefix cache yet");
  return {};
}

std::vector<std::string> environment_arguments(const CLI::App& command, const std::vector<std::string>& arguments) {
  std::vector<std::string> from_environment;
  const auto add = [&](const std::string& flag, const std::string& value, const std::string& source) {
    from_environment.push_back(fmt::format("--{}={}", flag, value));
    const bool is_secret = flag.ends_with("api-key") || flag == "disaggregation-secret";
    fmt::print(stderr, "hylas: {} sets --{}{}{}\n", source, flag, is_secret ? "" : " ", is_secret ? "" : value);
  };
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& flag : option->get_lnames()) {
      if (flag == "help" || given(*option, arguments)) continue;
      for (const std::string& name : environment_names(flag)) {
        const char* value = std::getenv(name.c_str());
        if (!value) continue;
        add(flag, value, name);
        break;
      }
    }
  }
  // Whoever gives --nnodes says all about the nodes.
  const auto open = [&](const std::string& flag) {
    const CLI::Option* option = command.get_option_no_throw("--" + flag);
    return option && !given(*option, arguments) && !given(*option, from_environment);
  };
  if (!open("nnodes")) return from_environment;
  for (const NodeDefault& one : node_defaults(std::getenv)) {
    if (open(one.flag)) add(one.flag, one.value, one.source);
  }
  return from_environment;
}

std::string nearest_flag(const CLI::App& command, const std::string& unknown) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, unknown.size() / 3) + 1;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      size_t distance = edit_distance("--" + name, unknown);
      if (distance >= best_distance) continue;
      best_distance = distance;
      best = "--" + name;
    }
  }
  return best;
}

}  // namespace hylas
