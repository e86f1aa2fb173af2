#include "ops/cuda/attention_splits.h"
#include "ops/cuda/element.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = kPartialDim;

// A block per row and head, a thread per dimension.
__global__ void __launch_bounds__(kThreads) attention_merge_kernel(AttentionArgs args, Splits splits) {
  __shared__ float keep[kThreads], memory[kThreads / 32];
  const BatchView& batch = args.batch;
  const int row = splits.first_row + blockIdx.y, head = blockIdx.x, d = threadIdx.x;
  if (batch.state_write[row] < 0) return follow();
  const int64_t t = batch.row_begin[row];
  const int count = (batch.kv_len[row] + kSplit - 1) / kSplit;
  // The gate is older than the kernel before this one.
  const auto* gates = static_cast<const Bf16*>(args.qg.data) + t * args.qg.stride;
  const float gate = to_f32(gates[(2 * head + 1) * kPartialDim + d]);
  follow();
  const float* partials =
      splits.partials + (static_cast<int64_t>(blockIdx.y) * args.heads + head) * splits.splits * kPartial;
  float highest = -INFINITY;
  for (int i = d; i < count; i += kThreads) highest = fmaxf(highest, partials[i * kPartial + kPartialDim]);
  for (int offset = 16; offset > 0; offset >>= 1) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
  if (d % 32 == 0) memory[d / 32] = highest;
  __syncthreads();
  for (const float other : memory) highest = fmaxf(highest, other);
  float total = 0.f, sum = 0.f;
  for (int first = 0; first < count; first += kThreads) {
    const int here = min(count - first, kThreads);
    const float* piece = partials + static_cast<int64_t>(first) * kPartial;
    if (d < here) keep[d] = __expf(piece[d * kPartial + kPartialDim] - highest);
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < here; ++i) {
      total = fmaf(piece[i * kPartial + kPartialDim + 1], keep[i], total);
      sum = fmaf(piece[i * kPartial + d], keep[i], sum);
    }
    __syncthreads();
  }
  static_cast<Bf16*>(args.out.data)[t * args.out.stride + head * kPartialDim + d] =
      from_f32<Bf16>(sum / total * sigmoid(gate));
}

}  // namespace

void attention_merge(const AttentionArgs& args, const Splits& splits, Stream stream) {
  launch_following(attention_merge_kernel, dim3(static_cast<unsigned>(args.heads), static_cast<unsigned>(splits.rows)),
                   kThreads, 0, stream, "attention (decode)", args, splits);
}

}  // namespace hylas::cuda
