#include "ops/cuda/gemm.h"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 16;  // a thread's neighbouring inputs: of one scale block

__global__ void dequantize_kernel(WeightView weight, int64_t inputs, Bf16* to) {
  const int64_t n = blockIdx.x, k = (blockIdx.y * static_cast<int64_t>(kThreads) + threadIdx.x) * kEach;
  if (k >= inputs) return;
  float value[kEach];
  load<kEach>(static_cast<const F8*>(weight.data) + n * weight.stride + k, value);
  const float scale = weight.scale[n / 128 * weight.scale_stride + k / 128];
  for (float& x : value) x *= scale;
  store<kEach>(to + n * inputs + k, value);
}

}  // namespace

void dequantize(const WeightView& weight, int64_t outputs, int64_t inputs, void* to, Stream stream) {
  const dim3 grid(static_cast<unsigned>(outputs),
                  static_cast<unsigned>((inputs + kThreads * kEach - 1) / (kThreads * kEach)));
  dequantize_kernel<<<grid, kThreads, 0, stream>>>(weight, inputs, static_cast<Bf16*>(to));
  check_launch("linear (dequantize)");
}

}  // namespace hylas::cuda
