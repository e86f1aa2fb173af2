#pragma once
// Graphs: steps that are launched as one CUDA graph.
#include <driver_types.h>

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

// Not thread-safe: the rank's thread. `device` outlives it.
class Graphs {
 public:
  explicit Graphs(CudaDevice& device) : device_(device) {}
  ~Graphs();
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  // Ops::replay. The first call runs `body` as well as recording it: what is made at first use is made then.
  void replay(uint64_t key, const std::function<void()>& body);

 private:
  cudaGraphExec_t record(const std::function<void()>& body);

  CudaDevice& device_;
  std::unordered_map<uint64_t, cudaGraphExec_t> graphs_;
};

}  // namespace hylas::cuda
