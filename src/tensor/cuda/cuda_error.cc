#include "tensor/cuda/cuda_error.h"

#include "base/check.h"

namespace hylas::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  int device = -1;
  cudaGetDevice(&device);
  HYLAS_CHECK(false, "CUDA failed in {} on device {}: {} ({})", what, device, cudaGetErrorString(status),
              cudaGetErrorName(status));
}

}  // namespace hylas::cuda
