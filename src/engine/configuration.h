#pragma once
// EngineConfiguration: the command line and the checkpoint's files made into numbers, or refused. A pure function.
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cache/memory_budget.h"
#include "engine/batch_build.h"
#include "engine/engine.h"
#include "model/decoder.h"
#include "model/generation_config.h"

namespace hylas {

// Prompt tokens of one step on a CPU. 512 rows read every weight once and compute long enough (hundreds of operations
// per byte) that more would not make prefill faster, while a decoding request waits for one such step at most; the
// activations of 512 rows still lie near the processor.
constexpr int32_t kCpuPrefillTokens = 512;
// On a GPU: enough that the experts' weights are read for many tokens each; and of its memory, which nothing shares.
constexpr int32_t kCudaPrefillTokens = 8192;
// --ep-dispatch-tokens: every exchange reads the experts' weights again, so a GPU wants many tokens in one.
constexpr int32_t kCpuDispatchTokens = 128;
constexpr int32_t kCudaDispatchTokens = 2048;
constexpr double kCudaMemoryFraction = 0.9;
// With FP8 experts' products, which take a whole step's rows in several forms, at least: gpu_kernels.cc asks for more
// where the model and the chunk need it.
constexpr size_t kCudaFp8WorkspaceBytes = size_t{1} << 30;
// What --prefill-attention-backend fa3 needs for a position of the longest context: key and value of one head in bf16.
constexpr size_t kCudaFa3PositionBytes = 1024;
// Of the free memory. The other half is for what shares the machine's memory here and has its own on a GPU: the page
// cache of the weights' files, the server, and retracted sequences.
constexpr double kCpuMemoryFraction = 0.5;

struct EngineConfiguration {
  ModelConfig model;
  DecoderOptions decoder;
  std::vector<int32_t> eos_ids;
  int32_t vocab_tokens = 0;
  int32_t context_length = 0;
  ParallelSizes parallel;
  std::vector<int32_t> stage_begins;  // first layer of each stage, and num_layers: [pp + 1]
  int32_t plans_in_flight_max = 2;
  int32_t decode_rows_max = 0;     // of one step and dp group; 0: the stages' shares
  int32_t prefill_tokens_max = 0;  // of one step and dp group
  bool enable_dynamic_chunking = false;
  int32_t running_bound = 0;  // of one dp group; the memory budget may allow fewer
  int64_t kv_tokens_max = 0;  // 0: from the budget
  int32_t running_max = 0;    // 0: from the budget
  double memory_fraction = 0;
  BatchLimits limits;               // of one dp group
  std::vector<int32_t> graph_rows;  // of recorded decode steps

  // What `rank` holds of the model.
  DecoderOptions decoder_of(int32_t rank) const;
  // The budget's inputs; `free_bytes` are those left once the weights are in memory.
  BudgetInputs budget(int64_t free_bytes, int64_t arena_bytes, const StateLayout& layout) const;
};

// kUnsupported: a device, type or parallel layout that this build does not have; kInvalid: numbers out of range or
// against each other. Both name the flag and what it may be.
Result<EngineConfiguration> configure(const EngineOptions& options, const ModelConfig& model,
                                      const GenerationConfig& generation);

}  // namespace hylas
