#pragma once
// The launch of one instance of DeepGEMM's kernel. The host side of the library is not in its headers.
#include <deep_gemm/impls/sm90_fp8_gemm_1d2d.cuh>

#include "ops/cuda/deep_gemm.h"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {

// In place of the library's number of groups, which this kind of product has no use for: deep_gemm_grouped.cu.
constexpr int kGroupsOfRowsThere = 0;

template <int kRows, int kOutputs, int kStages, int kCluster, int kBlocks, deep_gemm::GemmType kType>
void launch_deep_gemm(const DeepGemmArgs& p, Stream stream) {
  constexpr int kCopyThreads = 128, kMathThreads = kRows <= 64 ? 128 : 256, kSwizzle = 128;
  // Sizes 0: taken at run time. One group; the grouped kind reads whose a row is and how many there are from
  // row_expert.
  constexpr int kGroups = kType == deep_gemm::GemmType::MGroupedContiguous ? kGroupsOfRowsThere : 1;
  const auto kernel =
      &deep_gemm::sm90_fp8_gemm_1d2d_impl<cute::UMMA::Major::K, 0, 0, 0, kGroups, kRows, kOutputs, kFp8Depth, kSwizzle,
                                          kSwizzle, kSwizzle, kStages, kCopyThreads, kMathThreads, kCluster, false,
                                          kBlocks, kType, cutlass::bfloat16_t>;
  static SharedLimit limit;
  limit.raise(kernel, kFp8SharedBytesMax - 1024, "linear (fp8, shared memory)");
  // Begins while the kernel before it ends (tensor/cuda/launch.cuh): the kernel waits before it reads anything.
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(kBlocks);
  config.blockDim = dim3(kCopyThreads + kMathThreads);
  config.dynamicSmemBytes = static_cast<size_t>(fp8_shared_bytes(p.tile, p.inputs));
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = kCluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, const_cast<float*>(p.weight_scale), const_cast<int*>(p.row_expert),
                           static_cast<uint32_t>(p.rows), static_cast<uint32_t>(p.outputs),
                           static_cast<uint32_t>(p.inputs), p.x, p.weight, p.out, p.x_scale),
        "linear (fp8)");
}

// Runs the instance of the table whose tile is p.tile.
template <const auto& kTiles, size_t kIndex, deep_gemm::GemmType kType>
void launch_deep_gemm_tile(const DeepGemmArgs& p, Stream stream) {
  constexpr Fp8Tile kTile = kTiles[kIndex];
  static_assert(128 % kTile.outputs == 0, "one row of weight scales for each tile, as fp8_shared_bytes counts");
  if (p.tile == kTile) {
    launch_deep_gemm<kTile.rows, kTile.outputs, kTile.stages, kTile.cluster, kTile.blocks, kType>(p, stream);
  } else if constexpr (kIndex + 1 < std::size(kTiles)) {
    launch_deep_gemm_tile<kTiles, kIndex + 1, kType>(p, stream);
  }
}

}  // namespace hylas::cuda
