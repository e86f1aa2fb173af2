#pragma once
// A layout of GPUs under load, simulated: the engine's own configuration, the memory that the weights leave, the real
// scheduler, and what a step takes on one kind of GPU.
#include <string>

#include "engine/roofline.h"
#include "engine/simulator.h"

namespace hylas {

struct SimulatedLayout {
  ParallelSizes sizes;
  std::string partition;  // layers of each stage; empty: balanced by their cost
  int32_t chunk = 16384;  // prompt tokens of a step
  int32_t async_depth = 1;
  int32_t running_max = 256;  // sequences, if memory holds them
  int32_t context_length = 0;
  bool dynamic_chunking = false;
};

// FP8 KV and a float16 state, as benchmarks have them. Errors are those of the engine's start; kUnsupported: no request
// fits beside the weights.
Result<SimulatedRun> simulate_layout(const ModelConfig& model, const GpuKind& gpu, const KernelCosts& costs,
                                     const SimulatedLayout& layout, const SimulatedLoad& load);

}  // namespace hylas
