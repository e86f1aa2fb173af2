#include "engine/configuration.h"

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "engine/decode_graphs.h"
#include "engine/prefill_policy.h"
#include "model/partition.h"

namespace hylas {
namespace {

// The type that a flag names: `automatic` for "auto", otherwise one of `allowed`.
Result<DType> choose_dtype(const char* flag, const std::string& value, DType automatic,
                           std::initializer_list<DType> allowed) {
  std::optional<DType> chosen = value == "auto" ? automatic : parse_dtype(value);
  if (chosen && std::find(allowed.begin(), allowed.end(), *chosen) != allowed.end()) return *chosen;
  std::string names;
  for (DType dtype : allowed) names += fmt::format(", {}", dtype_name(dtype));
  const std::string what = value == "auto" ? fmt::format("auto ({})", dtype_name(automatic)) : value;
  return error(chosen ? ErrorCode::kUnsupported : ErrorCode::kInvalid, "{} {}: must be auto{}", flag, what, names);
}

Status check_flags(const EngineOptions& options) {
  if (options.device != "cpu" && options.device != "cuda") {
    return error(ErrorCode::kInvalid, "--device {}: must be cpu or cuda", options.device);
  }
  if (options.base_gpu_id < 0) {
    return error(ErrorCode::kInvalid, "--base-gpu-id {}: must be at least 0", options.base_gpu_id);
  }
  if (options.role != InstanceRole::kWhole && options.parallel.nodes > 1) {
    return error(ErrorCode::kUnsupported, "--disaggregation-mode works on one node, not with --nnodes {}",
                 options.parallel.nodes);
  }
  if (options.load_format != "auto" && options.load_format != "dummy") {
    return error(ErrorCode::kInvalid, "--load-format {}: must be auto or dummy", options.load_format);
  }
  if (options.page_size < 1) {
    return error(ErrorCode::kInvalid, "--page-size {}: must be at least 1", options.page_size);
  }
  if (options.threads < 0) {
    return error(ErrorCode::kInvalid, "--threads {}: must be at least 1, or 0 for all cores", options.threads);
  }
  if (options.chunked_prefill_size != -1 &&
      (options.chunked_prefill_size < kChunkUnit || options.chunked_prefill_size % kChunkUnit != 0)) {
    return error(ErrorCode::kInvalid, "--chunked-prefill-size {}: must be a multiple of {}, or -1 to choose",
                 options.chunked_prefill_size, kChunkUnit);
  }
  if (options.max_prefill_tokens < kChunkUnit) {
    return error(ErrorCode::kInvalid, "--max-prefill-tokens {}: must be at least {}", options.max_prefill_tokens,
                 kChunkUnit);
  }
  for (int32_t rows : options.cuda_graph_rows) {
    if (rows < 1) return error(ErrorCode::kInvalid, "--cuda-graph-bs {}: must be at least 1", rows);
  }
  if (options.cuda_graph_rows_max < 1) {
    return error(ErrorCode::kInvalid, "--cuda-graph-max-bs {}: must be at least 1", options.cuda_graph_rows_max);
  }
  if (options.max_running_requests < 0) {
    return error(ErrorCode::kInvalid, "--max-running-requests {}: must be at least 1, or 0 to choose",
                 options.max_running_requests);
  }
  return {};
}

// Sizes and shapes that fit each other and the model.
Status check_parallel(const EngineOptions& options, const ModelConfig& model) {
  const ParallelSizes& sizes = options.parallel;
  HYLAS_TRY(check_sizes(sizes));
  if (sizes.dp > 1 && !options.enable_dp_attention) {
    return error(ErrorCode::kUnsupported,
                 "--dp-size {} needs --enable-dp-attention; for independent replicas start several instances",
                 sizes.dp);
  }
  if (options.pp_async_batch_depth < -1 || options.pp_async_batch_depth > 64) {
    return error(ErrorCode::kInvalid, "--pp-async-batch-depth {}: must lie between 0 and 64",
                 options.pp_async_batch_depth);
  }
  if (options.pp_max_micro_batch_size < 0) {
    return error(ErrorCode::kInvalid, "--pp-max-micro-batch-size {}: must be at least 1, or 0 to choose",
                 options.pp_max_micro_batch_size);
  }
  return check_shapes(model, sizes);
}

Result<std::vector<int32_t>> choose_stages(const EngineOptions& options, const ModelConfig& model) {
  if (options.pp_layer_partition.empty() && options.parallel.pp == 1) return std::vector<int32_t>{0, model.num_layers};
  if (options.pp_layer_partition.empty()) return balance(estimate_costs(model), options.parallel.pp);
  return parse_partition(options.pp_layer_partition, model.num_layers, options.parallel.pp);
}

Result<int32_t> choose_context(const EngineOptions& options, const ModelConfig& model) {
  if (options.context_length == 0) return model.max_position_embeddings;
  if (options.context_length < 2 || options.context_length > model.max_position_embeddings) {
    return error(ErrorCode::kInvalid, "--context-length {}: must lie between 2 and the model's {}",
                 options.context_length, model.max_position_embeddings);
  }
  return options.context_length;
}

Result<int32_t> choose_vocab_tokens(const EngineOptions& options, const ModelConfig& model) {
  if (options.vocab_tokens < 0 || options.vocab_tokens > model.vocab_size) {
    return error(ErrorCode::kInvalid, "the tokenizer has {} tokens, but the model's vocabulary has {} rows",
                 options.vocab_tokens, model.vocab_size);
  }
  return options.vocab_tokens ? options.vocab_tokens : model.vocab_size;
}

}  // namespace

Result<EngineConfiguration> configure(const EngineOptions& options, const ModelConfig& model,
                                      const GenerationConfig& generation) {
  HYLAS_TRY(check_flags(options));
  HYLAS_TRY(check_parallel(options, model));
  EngineConfiguration chosen;
  chosen.model = model;
  chosen.parallel = options.parallel;
  HYLAS_ASSIGN(chosen.stage_begins, choose_stages(options, model));
  const int32_t pp = options.parallel.pp, dp = options.parallel.dp;
  chosen.plans_in_flight_max = pp + (options.pp_async_batch_depth < 0 ? 1 : options.pp_async_batch_depth);
  chosen.decode_rows_max = options.pp_max_micro_batch_size;
  chosen.eos_ids = generation.eos_ids.empty() ? model.eos_ids : generation.eos_ids;
  HYLAS_ASSIGN(chosen.vocab_tokens, choose_vocab_tokens(options, model));
  HYLAS_ASSIGN(chosen.context_length, choose_context(options, model));

  DecoderOptions& decoder = chosen.decoder;
  HYLAS_ASSIGN(decoder.act, choose_dtype("--dtype", options.dtype, model.dtype, {DType::kBF16, DType::kF32}));
  HYLAS_ASSIGN(decoder.kv, choose_dtype("--kv-cache-dtype", options.kv_cache_dtype, decoder.act,
                                        {DType::kBF16, DType::kF8E4M3, DType::kF32}));
  HYLAS_ASSIGN(decoder.state, choose_dtype("--mamba-ssm-dtype", options.state_dtype, model.state_dtype,
                                           {DType::kF32, DType::kF16, DType::kBF16}));
  if (options.with_mtp && model.mtp_layers == 0) {
    return error(ErrorCode::kUnsupported, "this model has no MTP head (mtp_num_hidden_layers)");
  }
  if (options.with_mtp && dp > 1) {  // a step of the head does not know what the other groups bring to the experts
    return error(ErrorCode::kUnsupported, "--mtp works with one dp group, not with --dp-size {}", dp);
  }
  decoder.with_mtp = options.with_mtp;
  decoder.layer_end = model.num_layers;
  decoder.page_size = options.page_size;
  const int32_t dispatch_default = options.device == "cuda" ? kCudaDispatchTokens : kCpuDispatchTokens;
  decoder.dispatch_tokens = options.ep_dispatch_tokens > 0 ? options.ep_dispatch_tokens : dispatch_default;

  const bool cuda = options.device == "cuda";
  const int32_t chunk_default = cuda ? kCudaPrefillTokens : kCpuPrefillTokens;
  const int32_t chunk = options.chunked_prefill_size == -1 ? chunk_default : options.chunked_prefill_size;
  // The groups share a step's tokens and the sequences.
  chosen.prefill_tokens_max =
      std::max(kChunkUnit, std::min(chunk, options.max_prefill_tokens) / dp / kChunkUnit * kChunkUnit);
  chosen.enable_dynamic_chunking = options.enable_dynamic_chunking;
  chosen.kv_tokens_max = options.max_total_tokens;
  chosen.running_max = (options.max_running_requests + dp - 1) / dp;
  chosen.running_bound = chosen.running_max ? chosen.running_max : kRunningMaxDefault;
  const double fraction = cuda ? kCudaMemoryFraction : kCpuMemoryFraction;
  chosen.memory_fraction = options.mem_fraction_static == 0 ? fraction : options.mem_fraction_static;
  chosen.limits = {.tokens_max = chosen.prefill_tokens_max + chosen.running_bound,
                   .rows_max = chosen.running_bound,
                   .context_length = chosen.context_length,
                   .page_size = options.page_size};
  if (cuda && !options.disable_cuda_graph) {
    const int32_t rows_max = std::min(options.cuda_graph_rows_max, chosen.running_bound);
    chosen.graph_rows = decode_graph_rows(options.cuda_graph_rows, rows_max);
  }
  return chosen;
}

DecoderOptions EngineConfiguration::decoder_of(int32_t rank) const {
  DecoderOptions options = decoder;
  options.shard = {parallel, place_of(parallel, rank)};
  options.layer_begin = stage_begins[options.shard.place.stage];
  options.layer_end = stage_begins[options.shard.place.stage + 1];
  return options;
}

BudgetInputs EngineConfiguration::budget(int64_t free_bytes, int64_t arena_bytes, const StateLayout& layout) const {
  return {.free_bytes = free_bytes,
          .fraction = memory_fraction,
          .arena_bytes = arena_bytes,
          .token_bytes = layout.bytes_per_token(),
          .sequence_bytes = layout.bytes_per_sequence(),
          .page_size = limits.page_size,
          .context_length = context_length,
          .kv_tokens_max = kv_tokens_max,
          .running_max = running_max};
}

}  // namespace hylas
