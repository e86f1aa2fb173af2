#pragma once
// Engine: one instance of the model that serves requests. Owns the scheduler thread and the rank threads.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/request.h"

namespace hylas {

// What the command line says (app/options.h fills it in). -1 and 0 stand for "choose".
struct EngineOptions {
  std::string model_path;
  std::string load_format = "auto";     // auto | dummy
  std::string device = "cpu";           // cpu
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
  int32_t vocab_tokens = 0;          // ids below this may be sampled (the tokenizer's); 0 = all rows of the vocabulary
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
};

// A snapshot, taken at any time from any thread.
struct EngineStats {
  int32_t running = 0, queued = 0, retracted = 0;
  int64_t kv_tokens_used = 0, kv_tokens_max = 0;
  int32_t slots_used = 0, slots_max = 0;
  int64_t pages_used = 0, pages_max = 0;
  uint64_t prompt_tokens_total = 0, generated_tokens_total = 0, requests_total = 0, aborted_total = 0,
           retractions_total = 0, steps_total = 0;
  int64_t busy_us_total = 0;           // time that the rank spent in steps
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
