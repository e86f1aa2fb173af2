#pragma once
// The operators on an NVIDIA GPU. In a build without CUDA every call answers that there is none.
#include <memory>

#include "ops/ops.h"

namespace hylas {

struct CudaOpsOptions {
  int device = 0;
  // Memory that operators use within a call, taken at start. Large steps are cut so that they fit.
  size_t workspace_bytes = size_t{512} << 20;
};
// One thread at a time may use it. kUnsupported: no GPU, another architecture, an old
// driver, or a build without CUDA; kExhausted: too little memory.
Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions& options);

}  // namespace hylas
