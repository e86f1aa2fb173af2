#pragma once
// Roofline: how long a step takes a pipeline stage of GPUs at least, from the model's shapes and the chips' measured
// ceilings. Every formula is derived in docs/simulator.md. Pure functions; nothing is fitted to a served workload.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "comm/topology.h"
#include "engine/step_plan.h"
#include "model/config.h"

namespace hylas {

// Ceilings that good kernels reach, per second.
struct GpuKind {
  const char* name;
  double fp8_flops, bf16_flops, attention_flops;
  double memory_bytes;  // copied
  double link_bytes;    // sent to the other GPUs of a node
  int64_t capacity_bytes;
};
// H20, H100 or H200, in any case. kInvalid names them.
Result<GpuKind> find_gpu(const std::string& name);

// Of one rank of a stage, microseconds. They follow each other.
struct StepTime {
  double gemm_us = 0;   // projections and experts: arithmetic or weights, whichever takes longer
  double mixer_us = 0;  // delta rule, attention, router
  double glue_us = 0;   // activations between the kernels
  double comm_us = 0;   // all-reduces, or the experts' exchange

  double total_us() const { return gemm_us + mixer_us + glue_us + comm_us; }
};

class Roofline {
 public:
  // `stage_begins` as in EngineConfiguration; `kv_bytes` and `state_bytes` of one element.
  Roofline(const ModelConfig& model, const GpuKind& gpu, const ParallelSizes& sizes, std::vector<int32_t> stage_begins,
           int64_t kv_bytes = 1, int64_t state_bytes = 2);

  StepTime step(int32_t stage, std::span<const PlanRow> rows) const;
  // From one stage to the next: [tokens, H] bf16 of the largest dp group.
  double hand_off_us(std::span<const PlanRow> rows) const;

 private:
  struct Load;
  Load load_of_rows(std::span<const PlanRow> rows) const;
  void add_linear_attention(const Load& load, StepTime& time) const;
  void add_full_attention(const Load& load, StepTime& time) const;
  void add_experts(const Load& load, StepTime& time) const;
  void add_dense(const Load& load, StepTime& time) const;
  void add_norms(const Load& load, StepTime& time) const;
  void add_head(const Load& load, StepTime& time) const;
  void add_all_reduce(double tokens, int32_t ranks, StepTime& time) const;
  double gemm_us(double tokens, double weights, bool is_fp8) const;
  double memory_us(double bytes) const { return bytes / gpu_.memory_bytes * 1e6; }

  ModelConfig model_;
  GpuKind gpu_;
  ParallelSizes sizes_;
  std::vector<int32_t> stage_begins_;
  double kv_bytes_, state_bytes_;
};

}  // namespace hylas
