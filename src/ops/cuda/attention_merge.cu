#include "ops/cuda/attention_splits.h"
#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kHeads = 4;    // of a block
constexpr int kColumns = 4;  // of a thread
constexpr int kLanes = kPartialDim / kColumns;
constexpr int kThreads = kHeads * kLanes;
constexpr int kAtOnce = 8;  // splits that are fetched together, at absolute multiples

template <class T>
__global__ void __launch_bounds__(kThreads) attention_merge_kernel(AttentionArgs args, Splits splits) {
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
  const auto* partials = static_cast<const Partial<T>*>(splits.partials) +
                         (static_cast<int64_t>(blockIdx.y) * args.heads + head) * splits.splits;
  float highest = -INFINITY, total = 0.f, sum[kColumns] = {};
  for (int first = 0; first < count; first += kAtOnce) {
    float mean[kAtOnce][kColumns], peak[kAtOnce], weight[kAtOnce];
    float now = highest;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const Partial<T>& from = partials[min(first + i, count - 1)];
      load<kColumns>(from.mean + d, mean[i]);
      peak[i] = from.highest;
      weight[i] = from.total;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) now = fmaxf(now, peak[i]);
    const float keep = __expf(highest - now);
    highest = now;
    total *= keep;
    for (float& x : sum) x *= keep;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i >= count) break;
      weight[i] *= __expf(peak[i] - now);
      total += weight[i];
      for (int c = 0; c < kColumns; ++c) sum[c] = fmaf(mean[i][c], weight[i], sum[c]);
    }
  }
  for (int c = 0; c < kColumns; ++c) sum[c] = sum[c] / total * sigmoid(gate[c]);
  const int64_t column = head * kPartialDim + d;
  Bf16* out = static_cast<Bf16*>(args.out.data) + t * args.out.stride + column;
  for (int c = 0; c < kColumns; ++c) out[c] = from_f32<Bf16>(sum[c]);
  if (args.fp8.data) put_fp8<128 / kColumns>(sum, args.fp8, t, column);
}

}  // namespace

void attention_merge(const AttentionArgs& args, const Splits& splits, Stream stream) {
  const dim3 grid(static_cast<unsigned>((args.heads + kHeads - 1) / kHeads), static_cast<unsigned>(splits.rows));
  const auto kernel = args.kv_dtype == DType::kF8E4M3 ? attention_merge_kernel<F16> : attention_merge_kernel<float>;
  launch_following(kernel, grid, kThreads, 0, stream, "attention (decode)", args, splits);
}

}  // namespace hylas::cuda
