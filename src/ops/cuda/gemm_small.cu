// Products with few outputs (routers, gates) in bf16: too few tiles to keep the GPU busy one step of K after another.
#include "ops/cuda/gemm_small.cuh"

namespace hylas::cuda {
namespace {

constexpr int64_t kOutputsMax = 512;

__global__ void __launch_bounds__(32 * kSmallWarps) gemm_small_kernel(const __grid_constant__ Product p) {
  __shared__ float sums[kSmallSums];
  small_tile<8, 8>(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), sums);
}

}  // namespace

bool gemm_small_can(const Product& p) {
  const auto fits = [&](const WeightView& weight, int64_t outputs) {
    return outputs <= kOutputsMax && weight.stride % 8 == 0 && reinterpret_cast<uintptr_t>(weight.data) % 16 == 0;
  };
  bool all = p.parts > 0 || fits(p.weight, p.outputs);
  for (int i = 0; i < p.parts; ++i) all = all && fits(p.part[i].weight, p.part[i].outputs);
  return all && p.x.dtype == DType::kBF16 && p.weight_dtype == DType::kBF16 && !p.paired && !p.weights && !p.x_index &&
         !p.out_index && p.slices == 1 && p.inputs % (kSmallWarps * kSmallStep) == 0 && p.x.stride % 8 == 0 &&
         reinterpret_cast<uintptr_t>(p.x.data) % 16 == 0;
}

bool gemm_small_takes(const Product& p) { return p.rows < kSmallRowsMax && gemm_small_can(p); }

void gemm_small(const Product& p, Stream stream) {
  const int64_t columns = matrix_tiles(p, kSmallOutputs);
  if (columns == 0 || p.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>((p.rows + kSmallRows - 1) / kSmallRows));
  launch_following(gemm_small_kernel, grid, 32 * kSmallWarps, 0, stream, "linear (few outputs)", p);
}

}  // namespace hylas::cuda
