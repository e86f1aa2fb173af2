// Stands in for ops/cuda in a build without it (cmake/cuda.cmake).
#include "ops/cuda_ops.h"

namespace hylas {

Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions&) {
  return error(ErrorCode::kUnsupported, "this program is built without CUDA: `make cuda` builds one with it");
}

int cuda_device_count() { return 0; }
void cuda_load_all_kernels() {}

}  // namespace hylas
