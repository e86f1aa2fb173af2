#include "ops/cuda/deep_gemm_launch.cuh"

namespace hylas::cuda {

void deep_gemm_dense(const DeepGemmArgs& args, Stream stream) {
  launch_deep_gemm_tile<kFp8DenseTiles, 0, deep_gemm::GemmType::Normal>(args, stream);
}

}  // namespace hylas::cuda
