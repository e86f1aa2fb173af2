#include "ops/cuda/deep_gemm_launch.cuh"

namespace deep_gemm::sched {

// How many tiles have rows only the router knows, so a buffer has room for whatever it may say: of 4096 tokens of
// Qwen3.5-397B 828 tiles, of which some 513 have rows. The library's scheduler takes that number at launch, from the
// host, and has tiles without rows copied and written like all others. This one reads behind row_expert how many there
// are. The library's own way (MGroupedContiguousWithPsumLayout) takes the number of experts at compile time, and every
// warp reads its way from expert to expert between two tiles, when the tensor cores wait for it.
template <uint32_t kRows, uint32_t kOutputs, uint32_t kCluster, bool kSharesX, uint32_t kBlocks, bool kZeros,
          uint32_t kAlignment, uint32_t kSpan, uint32_t kColumn, uint32_t kSplits, bool kPadded, bool kSkips>
struct Scheduler<GemmType::MGroupedContiguous, kRows, kOutputs, hylas::cuda::kGroupsOfRowsThere, kCluster, kSharesX,
                 kBlocks, kZeros, kAlignment, kSpan, kColumn, kSplits, kPadded, kSkips>
    : Scheduler<GemmType::MGroupedContiguous, kRows, kOutputs, 1, kCluster, kSharesX, kBlocks, kZeros, kAlignment,
                kSpan, kColumn, kSplits, kPadded, kSkips> {
  using Library = Scheduler<GemmType::MGroupedContiguous, kRows, kOutputs, 1, kCluster, kSharesX, kBlocks, kZeros,
                            kAlignment, kSpan, kColumn, kSplits, kPadded, kSkips>;
  __device__ __forceinline__ Scheduler(uint32_t rows, uint32_t outputs, uint32_t inputs, int* row_expert)
      : Library(static_cast<uint32_t>(row_expert[rows]), outputs, inputs, row_expert) {}
};

}  // namespace deep_gemm::sched

namespace hylas::cuda {

void deep_gemm_grouped(const DeepGemmArgs& args, Stream stream) {
  launch_deep_gemm_tile<kFp8GroupedTiles, 0, deep_gemm::GemmType::MGroupedContiguous>(args, stream);
}

}  // namespace hylas::cuda
