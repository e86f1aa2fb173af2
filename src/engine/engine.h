#pragma once
// Engine: one instance of the model that serves requests. Owns the scheduler thread and the rank threads.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/net.h"
#include "base/result.h"
#include "comm/topology.h"
#include "engine/request.h"

namespace hylas {

// What an instance does of a request: all of it, the prompt, or the rest (--disaggregation-mode).
enum class InstanceRole : uint8_t { kWhole, kPrefill, kDecode };

// What the command line says (app/options.h fills it in). -1 and 0 stand for "choose".
struct EngineOptions {
  std::string model_path;
  std::string load_format = "auto";     // auto | dummy
  std::string device = "cpu";           // cpu, cuda
  std::string dtype = "auto";           // auto | bfloat16 | float32
  std::string kv_cache_dtype = "auto";  // auto | bfloat16 | fp8_e4m3
  std::string state_dtype = "auto";     // --mamba-ssm-dtype: auto | float32 | float16 | bfloat16
  int32_t page_size = 64;
  int32_t chunked_prefill_size = -1;  // new tokens per prefill step; -1 = chosen, a multiple of 64
  int32_t max_prefill_tokens = 16384;
  double mem_fraction_static = 0;    // of the memory that is free once the weights are mapped; 0 = chosen
  int64_t max_total_tokens = 0;      // KV tokens; 0 = from the memory budget
  int32_t max_running_requests = 0;  // 0 = from the memory budget
  int32_t context_length = 0;        // 0 = the model's
  int32_t threads = 0;               // CPU threads of a rank; 0 = all cores
  std::string isa = "auto";          // CPU instructions: auto | scalar | avx2 | avx512
  bool with_mtp = false;             // load the MTP head, for PlanRow::want_drafts
  int32_t vocab_tokens = 0;          // ids below this may be sampled (the tokenizer's); 0 = all rows of the vocabulary

  ParallelSizes parallel;                // --tp-size, --pp-size, --ep-size, --dp-size, --nnodes
  int32_t node_rank = 0;                 // which of the nodes this process is
  std::string dist_init_addr;            // host:port of node 0, with several nodes
  int32_t dist_timeout_s = 600;          // for all nodes to come
  bool enable_dp_attention = false;      // what --dp-size > 1 needs
  std::string pp_layer_partition;        // "15,15,15,15"; empty = balanced by cost
  int32_t pp_async_batch_depth = -1;     // plans in flight beyond one for each stage; -1 = 1
  int32_t pp_max_micro_batch_size = 0;   // decode rows of a step; 0 = each stage's share
  bool enable_dynamic_chunking = false;  // prefill chunks shrink as their prefix grows, to steps of equal time
  std::vector<int32_t> cuda_graph_rows;  // --cuda-graph-bs: rows of recorded decode steps; empty = chosen
  int32_t cuda_graph_rows_max = 256;     // --cuda-graph-max-bs
  bool disable_cuda_graph = false;
  bool disable_row_launch = false;
  std::string fp8_gemm_backend = "auto";           // --fp8-gemm-backend: auto | deep_gemm | hylas, FP8 weights on a GPU
  std::string moe_runner_backend = "auto";         // --moe-runner-backend: the same for experts
  std::string linear_attn_backend = "auto";        // --linear-attn-backend: auto | hylas | flashinfer, prefill on a GPU
  std::string prefill_attention_backend = "auto";  // --prefill-attention-backend: auto | hylas | fa3, the same
  int32_t base_gpu_id = 0;                         // --base-gpu-id: of a node's first rank, the others follow
  bool ranks_share_gpu = false;                    // for tests: ranks take turns over the GPUs that there are
  int32_t ep_dispatch_tokens = 0;  // tokens that a rank sends to other ranks' experts at a time; 0 = chosen

  InstanceRole role = InstanceRole::kWhole;  // --disaggregation-mode
  HostPort bootstrap{"127.0.0.1", 8998};     // kPrefill: where decoding instances connect; port 0: any free one
  std::string transfer_devices;              // --disaggregation-ib-device: of UCX, "mlx5_0,mlx5_1"
  std::string disaggregation_secret;         // that both instances know; empty: anybody may connect
  bool stage_transfers = false;              // for tests: states go through host memory as those of a GPU do
};

// What an instance is, for /model_info, /server_info and the log.
struct EngineInfo {
  std::string model_name;
  int32_t context_length = 0;
  int32_t vocab_size = 0;
  int64_t kv_tokens_max = 0;
  int32_t running_max = 0;
  int32_t page_size = 0;
  std::string dtype, kv_dtype, state_dtype;
  std::vector<int32_t> eos_ids;
  ParallelSizes parallel;
  InstanceRole role = InstanceRole::kWhole;
  uint16_t bootstrap_port = 0;  // kPrefill: where decoding instances connect
};

// One stage of the pipeline since the start.
struct StageStats {
  int64_t busy_us = 0;
  int64_t sums_us = 0;  // of it, in sums over ranks, waiting for them included
  // Time in which the instance had plans in flight: what a stage did not work of it, is its bubble.
  int64_t active_us = 0;
  double bubble_ratio() const { return active_us > 0 ? 1 - static_cast<double>(busy_us) / active_us : 0; }
};

// A snapshot, taken at any time from any thread.
struct EngineStats {
  int32_t running = 0, queued = 0, retracted = 0;
  int64_t kv_tokens_used = 0, kv_tokens_max = 0;
  int32_t slots_used = 0, slots_max = 0;
  int32_t transfers = 0;  // sequences whose state is on its way to or from another instance
  int64_t pages_used = 0, pages_max = 0;
  int64_t landing_pages_used = 0;  // host memory where states arrive (landing_area.h)
  int32_t landing_slots_used = 0;
  uint64_t prompt_tokens_total = 0, generated_tokens_total = 0, requests_total = 0, aborted_total = 0,
           retractions_total = 0, steps_total = 0;
  int64_t busy_us_total = 0;           // time that the last stage spent in steps
  std::vector<StageStats> stages;      // by stage
  double generation_tokens_per_s = 0;  // over the last seconds
};

// All public calls are thread-safe.
class Engine {
 public:
  // Loads the weights and starts the threads; returns when the engine can serve.
  static Result<std::unique_ptr<Engine>> start(const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;
  virtual EngineStats stats() const = 0;
  // The last steps of every stage in Trace Event Format (chrome://tracing, ui.perfetto.dev).
  virtual std::string trace_json() const = 0;

  // kInvalid when the request can never run (empty or too long a prompt: says both lengths; more memory than there is:
  // says how much is needed); kUnavailable while stopping. Otherwise the callback gets every output.
  virtual Result<RequestId> submit(Request request, OutputCallback callback) = 0;
  // Unknown and finished ids are ignored. The callback gets a last Output with kAbort.
  virtual void abort(RequestId id) = 0;
  virtual void abort_all() = 0;
  // Waits until nothing is running or queued, or `timeout_us` passed; new requests are refused meanwhile. Then stop.
  virtual void drain(int64_t timeout_us) = 0;
};

}  // namespace hylas
