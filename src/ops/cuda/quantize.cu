#include "ops/cuda/quantize.h"

#include "ops/cuda/quantize.cuh"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 128;
constexpr int kLanes = kGroup / kVector;  // threads of a group: half a warp

// No thread leaves early: neighbouring groups share a warp, and its exchanges want all of it.
template <bool gated>
__global__ void quantize_kernel(const Bf16* x, int64_t stride, const int32_t* index, const Fp8Rows to) {
  follow();
  const int64_t item = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / kLanes;
  const int64_t groups = to.inputs / kGroup, row = item / groups, group = item % groups;
  const int lane = threadIdx.x % kLanes;
  bool there = row < to.rows;
  int64_t source = row;
  if (there && index) {
    const int32_t found = index[row];
    there = found >= 0;
    if (!gated) source = found;
  }
  float value[kVector] = {};
  if (there) {
    const Bf16* from = x + source * stride + group * kGroup + lane * kVector;
    load<kVector>(from, value);
    if constexpr (gated) {
      float up[kVector];
      load<kVector>(from + to.inputs, up);
      for (int i = 0; i < kVector; ++i) value[i] = to_f32(from_f32<Bf16>(silu(value[i]) * up[i]));
    }
  }
  float most = kE4m3LeastMaximum;
  for (int i = 0; i < kVector; ++i) most = fmaxf(most, fabsf(value[i]));
  for (int offset = kLanes / 2; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, offset));
  if (!there) return;
  const float scale = most / kE4m3Max, reciprocal = __frcp_rn(scale);
  for (float& v : value) v = quotient(v, scale, reciprocal);
  store<kVector>(static_cast<F8*>(to.data) + row * to.inputs + group * kGroup + lane * kVector, value);
  if (lane == 0) to.scale[group * to.scale_stride + row] = scale;
}

template <bool gated>
void launch(const View& x, const int32_t* index, const Fp8Rows& to, Stream stream) {
  const int64_t threads = to.rows * (to.inputs / kGroup) * kLanes;
  if (threads == 0) return;
  launch_following(quantize_kernel<gated>, static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0,
                   stream, "quantize", static_cast<const Bf16*>(x.data), x.stride, index, to);
}

}  // namespace

void quantize_rows(const View& x, const int32_t* index, const Fp8Rows& to, Stream stream) {
  launch<false>(x, index, to, stream);
}

void silu_mul_quantize_rows(const View& gate_up, const int32_t* index, const Fp8Rows& to, Stream stream) {
  launch<true>(gate_up, index, to, stream);
}

}  // namespace hylas::cuda
