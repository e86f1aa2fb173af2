#include "engine/simulated_layout.h"

#include <algorithm>

#include "engine/gpu_kernels.h"
#include "engine/layout_plan.h"

namespace hylas {
namespace {

EngineOptions engine_options(const SimulatedLayout& layout) {
  EngineOptions engine;
  engine.parallel = layout.sizes;
  engine.enable_dp_attention = layout.sizes.dp > 1;
  engine.chunked_prefill_size = layout.chunk;
  engine.max_prefill_tokens = layout.chunk;
  engine.pp_async_batch_depth = layout.async_depth;
  if (layout.sizes.pp > 1) engine.pp_layer_partition = layout.partition;
  engine.kv_cache_dtype = "fp8_e4m3";
  engine.state_dtype = "float16";
  engine.mem_fraction_static = kGpuMemoryFraction;
  engine.context_length = layout.context_length;
  engine.max_running_requests = layout.running_max;
  engine.enable_dynamic_chunking = layout.dynamic_chunking;
  return engine;
}

SchedulerOptions scheduler_options(const EngineConfiguration& chosen, const LayoutPlan& plan) {
  SchedulerOptions scheduler;
  scheduler.stages = chosen.parallel.pp;
  scheduler.groups = chosen.parallel.dp;
  scheduler.page_size = chosen.limits.page_size;
  scheduler.context_length = chosen.context_length;
  scheduler.vocab_size = chosen.model.vocab_size;
  scheduler.prefill_tokens_max = chosen.prefill_tokens_max;
  scheduler.plans_in_flight_max = chosen.plans_in_flight_max;
  scheduler.enable_dynamic_chunking = chosen.enable_dynamic_chunking;
  const int64_t fit = plan.batch(chosen.context_length) / chosen.parallel.dp;
  scheduler.slots = static_cast<int32_t>(std::min<int64_t>(fit, chosen.running_bound));
  scheduler.pages =
      scheduler.slots * ((int64_t{chosen.context_length} + scheduler.page_size - 1) / scheduler.page_size);
  return scheduler;
}

}  // namespace

Result<SimulatedRun> simulate_layout(const ModelConfig& model, const GpuKind& gpu, const KernelCosts& costs,
                                     const SimulatedLayout& layout, const SimulatedLoad& load) {
  const EngineOptions options = engine_options(layout);
  HYLAS_ASSIGN(const EngineConfiguration chosen, configure(options, model, GenerationConfig{}));
  const RankMemory memory = {gpu.capacity_bytes, gpu_workspace_bytes(options, chosen, gpu.capacity_bytes)};
  HYLAS_ASSIGN(const LayoutPlan plan, plan_layout(chosen, memory, estimate_costs(chosen.model)));
  SimulatedPipeline pipeline;
  pipeline.scheduler = scheduler_options(chosen, plan);
  if (pipeline.scheduler.slots < 1) {
    return error(ErrorCode::kUnsupported, "{} ranks of {}: no request of {} tokens fits beside the weights",
                 layout.sizes.world(), gpu.name, chosen.context_length);
  }
  const Roofline roofline(model, gpu, layout.sizes, chosen.stage_begins, costs);
  pipeline.step_us = [&](int32_t stage, const StepPlan& step) { return roofline.step(stage, step.rows).total_us(); };
  pipeline.hand_off_us = [&](const StepPlan& step) {
    return layout.sizes.pp > 1 ? roofline.hand_off_us(step.rows) : 0;
  };
  return simulate(pipeline, load);
}

}  // namespace hylas
