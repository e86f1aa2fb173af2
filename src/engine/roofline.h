#pragma once
// Roofline: how long a step takes a pipeline stage of GPUs, from the model's shapes, kernel by kernel as the CUDA
// backend has them (docs/kernels.md). Every formula is derived in docs/simulator.md. Pure functions.
#include <cstdint>
#include <span>
#include <vector>

#include "comm/topology.h"
#include "engine/kernel_times.h"
#include "engine/step_plan.h"
#include "model/config.h"

namespace hylas {

// Of one rank of a stage, microseconds. They follow each other.
struct StepTime {
  double gemm_us = 0;     // projections, dense feed-forward, shared expert, router, head
  double experts_us = 0;  // products of the routed ones
  double mixer_us = 0;    // delta rule, attention
  double glue_us = 0;     // activations between the kernels
  double comm_us = 0;     // sums over ranks, or the experts' exchange

  double total_us() const { return gemm_us + experts_us + mixer_us + glue_us + comm_us; }
};

class Roofline {
 public:
  // `stage_begins` as in EngineConfiguration; `kv_bytes` and `state_bytes` of one element.
  Roofline(const ModelConfig& model, const GpuKind& gpu, const ParallelSizes& sizes, std::vector<int32_t> stage_begins,
           const KernelCosts& costs = {}, int64_t kv_bytes = 1, int64_t state_bytes = 2);

  StepTime step(int32_t stage, std::span<const PlanRow> rows) const;
  // From one stage to the next: [tokens, H] bf16 of the largest dp group.
  double hand_off_us(std::span<const PlanRow> rows) const;

 private:
  struct Load;
  struct Block;
  Load load_of_rows(std::span<const PlanRow> rows) const;
  void add_linear_attention(const Load& load, StepTime& time) const;
  void add_full_attention(const Load& load, StepTime& time) const;
  void add_experts(const Load& load, StepTime& time) const;
  void add_few_experts(const Block& block, StepTime& time) const;
  void add_many_experts(const Block& block, StepTime& time) const;
  void add_shared_expert(double tokens, StepTime& time) const;
  double experts_at_once(const Block& block) const;
  void add_dense(const Load& load, StepTime& time) const;
  void add_norm(double tokens, double sum_bytes, StepTime& time) const;
  void add_sum_and_norm(double tokens, double partial_bytes, int32_t ranks, StepTime& time) const;
  void add_head(const Load& load, StepTime& time) const;
  void add_gather(const Load& load, StepTime& time) const;
  void add_sum(double tokens, int32_t ranks, StepTime& time) const;
  // In FP8 where the checkpoint is.
  double product_us(const ProductShape& shape) const;

  ModelConfig model_;
  KernelTimes times_;
  ParallelSizes sizes_;
  std::vector<int32_t> stage_begins_;
  double kv_bytes_, state_bytes_;
  double hidden_, in_bytes_;  // of a product's inputs
};

}  // namespace hylas
