#pragma once
// Programmatic dependent launch: a kernel's blocks may take their places while the kernel before it in the stream still
// runs, so that its start costs nothing. Such a kernel calls follow() before it touches what other kernels write.
#include <cuda_runtime_api.h>

#include <utility>

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

// In every thread of the kernel, before any may return. After it everything that was launched before is done, and the
// next kernel's blocks may come. Before it only memory that the kernel before this one does not write may be read:
// whatever was launched before that one is done, since it has called follow() too.
__device__ __forceinline__ void follow() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Launches a kernel that calls follow(). Asynchronous; the launch is checked.
template <class... Parameters, class... Arguments>
void launch_following(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                      const char* what, Arguments&&... arguments) {
  cudaLaunchAttribute ahead = {};
  ahead.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  ahead.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &ahead;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...), what);
}

}  // namespace hylas::cuda
