#include "ops/cuda/attention_splits.h"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kHeads = 4;    // of a block
constexpr int kColumns = 4;  // of a thread
constexpr int kLanes = kPartialDim / kColumns;
constexpr int kAtOnce = 8;  // splits that are fetched together, at absolute multiples

__global__ void __launch_bounds__(kHeads* kLanes) attention_merge_kernel(AttentionArgs args, Splits splits) {
  const BatchView& batch = args.batch;
  const int row = splits.first_row + blockIdx.y, head = blockIdx.x * kHeads + threadIdx.x / kLanes;
  const int d = threadIdx.x % kLanes * kColumns;
  if (batch.state_write[row] < 0 || head >= args.heads) return follow();
  const int64_t t = batch.row_begin[row];
  const int count = (batch.kv_len[row] + kSplit - 1) / kSplit;
  // The gate is older than the kernel before this one.
  float gate[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    gate[c] = to_f32(static_cast<const Bf16*>(args.qg.data)[t * args.qg.stride + (2 * head + 1) * kPartialDim + d + c]);
  }
  follow();
  const float* partial =
      splits.partials + (static_cast<int64_t>(blockIdx.y) * args.heads + head) * splits.splits * kPartial;
  float highest = -INFINITY, total = 0.f, sum[kColumns] = {};
  for (int first = 0; first < count; first += kAtOnce) {
    float value[kAtOnce][kColumns], peak[kAtOnce][2];  // the highest score, the total
    float now = highest;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float* from = partial + static_cast<int64_t>(min(first + i, count - 1)) * kPartial;
      load<kColumns>(from + d, value[i]);
      load<2>(from + kPartialDim, peak[i]);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) now = fmaxf(now, peak[i][0]);
    const float keep = __expf(highest - now);
    highest = now;
    total *= keep;
    for (float& x : sum) x *= keep;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i >= count) break;
      const float weight = __expf(peak[i][0] - now);
      total = fmaf(peak[i][1], weight, total);
      for (int c = 0; c < kColumns; ++c) sum[c] = fmaf(value[i][c], weight, sum[c]);
    }
  }
  for (int c = 0; c < kColumns; ++c) sum[c] = sum[c] / total * sigmoid(gate[c]);
  Bf16* out = static_cast<Bf16*>(args.out.data) + t * args.out.stride + head * kPartialDim + d;
  for (int c = 0; c < kColumns; ++c) out[c] = from_f32<Bf16>(sum[c]);
}

}  // namespace

void attention_merge(const AttentionArgs& args, const Splits& splits, Stream stream) {
  const dim3 grid(static_cast<unsigned>((args.heads + kHeads - 1) / kHeads), static_cast<unsigned>(splits.rows));
  launch_following(attention_merge_kernel, grid, kHeads * kLanes, 0, stream, "attention (decode)", args, splits);
}

}  // namespace hylas::cuda
