#include "engine/node_settings.h"

#include <filesystem>

#include "base/byte_io.h"
#include "base/text_file.h"

namespace hylas {
namespace {

// Tells apart checkpoints that share a name; the bytes of the weights are not read.
std::string weight_files(const std::string& directory) {
  std::error_code ignored;
  int64_t files = 0, bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    bytes += static_cast<int64_t>(entry.file_size(ignored));
  }
  return fmt::format("{} files of {} bytes", files, bytes);
}

Result<Settings> shared_settings(const EngineOptions& o, const std::string& directory) {
  HYLAS_ASSIGN(const std::string model, model_fingerprint(o, directory));
  Settings settings;
  const auto add = [&](const char* name, const auto& value) { settings.emplace_back(name, fmt::format("{}", value)); };
  add("--tp-size", o.parallel.tp);
  add("--pp-size", o.parallel.pp);
  add("--ep-size", o.parallel.ep);
  add("--dp-size", o.parallel.dp);
  add("--enable-dp-attention", o.enable_dp_attention);
  add("--pp-layer-partition", o.pp_layer_partition);
  add("--pp-async-batch-depth", o.pp_async_batch_depth);
  add("--pp-max-micro-batch-size", o.pp_max_micro_batch_size);
  add("--enable-dynamic-chunking", o.enable_dynamic_chunking);
  add("--ep-dispatch-tokens", o.ep_dispatch_tokens);
  add("--load-format", o.load_format);
  add("--dtype", o.dtype);
  add("--kv-cache-dtype", o.kv_cache_dtype);
  add("--mamba-ssm-dtype", o.state_dtype);
  add("--page-size", o.page_size);
  add("--chunked-prefill-size", o.chunked_prefill_size);
  add("--max-prefill-tokens", o.max_prefill_tokens);
  add("--max-total-tokens", o.max_total_tokens);
  add("--max-running-requests", o.max_running_requests);
  add("--context-length", o.context_length);
  add("the tokenizer's size", o.vocab_tokens);
  add("the model", model);
  return settings;
}

}  // namespace

Result<std::string> model_fingerprint(const EngineOptions& options, const std::string& directory) {
  HYLAS_ASSIGN(const std::string config, read_text_file((std::filesystem::path(directory) / "config.json").string()));
  return fmt::format("config.json with checksum {:016x}, {}", checksum(config),
                     options.load_format == "dummy" ? "made-up weights" : weight_files(directory));
}

Result<ClusterOptions> cluster_options(const EngineOptions& options, const std::string& directory) {
  const int32_t nodes = options.parallel.nodes;
  if (options.node_rank < 0 || options.node_rank >= nodes) {
    return error(ErrorCode::kInvalid, "--node-rank {}: must lie between 0 and {} with --nnodes {}", options.node_rank,
                 nodes - 1, nodes);
  }
  ClusterOptions cluster;
  cluster.sizes = options.parallel;
  cluster.node = options.node_rank;
  if (nodes == 1) return cluster;
  if (options.dist_init_addr.empty()) {
    return error(ErrorCode::kInvalid, "--nnodes {} needs --dist-init-addr: host:port of node 0, the same on all nodes",
                 nodes);
  }
  Result<HostPort> address = parse_host_port(options.dist_init_addr);
  if (!address.ok()) return error(ErrorCode::kInvalid, "--dist-init-addr: {}", address.error().message);
  cluster.address = *address;
  cluster.wait_us_max = int64_t{options.dist_timeout_s} * 1'000'000;
  HYLAS_ASSIGN(cluster.settings, shared_settings(options, directory));
  return cluster;
}

}  // namespace hylas
