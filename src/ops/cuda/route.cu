#include "ops/cuda/route.h"

#include "ops/cuda/element.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kHeld = kExpertsMax / 32;  // probabilities that a lane may hold

// One warp per token; lane l holds experts l, l + 32, ... Equal probabilities: the lowest id first.
template <int held>
__global__ void moe_route_kernel(const float* logits, int64_t logits_stride, int32_t* ids, int64_t ids_stride,
                                 float* weights, int64_t weights_stride, int64_t tokens, int experts, int k) {
  follow();
  const int64_t t = blockIdx.x * static_cast<int64_t>(kWarps) + threadIdx.x / 32;
  if (t >= tokens) return;
  const int lane = threadIdx.x % 32;
  const float* x = logits + t * logits_stride;
  float value[held], highest = -INFINITY;
#pragma unroll
  for (int i = 0; i < held; ++i) {
    value[i] = lane + 32 * i < experts ? x[lane + 32 * i] : -INFINITY;
    highest = fmaxf(highest, value[i]);
  }
  for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
  // The sum of all cancels in the division by the sum of the chosen ones. Positive floats are ordered as their bits;
  // 0: not there, or chosen before.
  unsigned key[held];
#pragma unroll
  for (int i = 0; i < held; ++i) {
    key[i] = lane + 32 * i < experts ? __float_as_uint(expf(fmaxf(value[i] - highest, -87.f))) : 0;
  }
  float sum = 0.f, mine = 0.f;
  for (int j = 0; j < k; ++j) {
    unsigned best = key[0];
#pragma unroll
    for (int i = 1; i < held; ++i) best = max(best, key[i]);
    best = __reduce_max_sync(~0u, best);
    unsigned id = ~0u;
#pragma unroll
    for (int i = held - 1; i >= 0; --i) {
      if (key[i] == best) id = lane + 32 * i;
    }
    id = __reduce_min_sync(~0u, id);
#pragma unroll
    for (int i = 0; i < held; ++i) {
      if (lane + 32 * i == id) key[i] = 0;
    }
    const float chosen = __uint_as_float(best);
    sum += chosen;
    if (lane == j % 32) {
      mine = chosen;
      ids[t * ids_stride + j] = static_cast<int32_t>(id);
      weights[t * weights_stride + j] = chosen;
    }
  }
  __syncwarp();
  if (k <= 32) {
    if (lane < k) weights[t * weights_stride + lane] = mine / sum;
  } else if (lane == 0) {
    for (int j = 0; j < k; ++j) weights[t * weights_stride + j] /= sum;
  }
}

}  // namespace

void route_rows(const View& logits, const View& ids, const View& weights, int64_t tokens, int experts, int k,
                Stream stream) {
  if (tokens == 0) return;
  const auto kernel = experts <= 256   ? moe_route_kernel<8>
                      : experts <= 512 ? moe_route_kernel<16>
                                       : moe_route_kernel<kHeld>;
  launch_following(kernel, static_cast<unsigned>((tokens + kWarps - 1) / kWarps), 32 * kWarps, 0, stream, "moe_route",
                   static_cast<const float*>(logits.data), logits.stride, static_cast<int32_t*>(ids.data), ids.stride,
                   static_cast<float*>(weights.data), weights.stride, tokens, experts, k);
}

}  // namespace hylas::cuda
