#include "ops/cuda/deep_gemm_launch.cuh"

namespace hylas::cuda {

void deep_gemm_grouped(const DeepGemmArgs& args, Stream stream) {
  launch_deep_gemm_tile<kFp8GroupedTiles, 0, deep_gemm::GemmType::MGroupedContiguous>(args, stream);
}

}  // namespace hylas::cuda
