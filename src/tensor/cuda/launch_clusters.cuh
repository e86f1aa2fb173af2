#pragma once
// launch_following for kernels whose blocks form clusters.
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {

// Launches a kernel that calls follow(), `cluster` neighbouring blocks along x as a cluster. Asynchronous; the launch
// is checked.
template <class... Parameters, class... Arguments>
void launch_following_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, int cluster, cudaStream_t stream,
                               const char* what, Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(cluster);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...), what);
}

}  // namespace hylas::cuda
