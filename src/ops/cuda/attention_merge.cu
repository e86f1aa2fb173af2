#include "ops/cuda/attention_splits.h"
#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kHeads = 2;    // of a block: registers allow five of them, but only two of twice the heads
constexpr int kColumns = 4;  // of a thread
constexpr int kLanes = kPartialDim / kColumns;
constexpr int kThreads = kHeads * kLanes;
constexpr int kAtOnce = 8;  // splits that are fetched together, at absolute multiples

// Some splits of a head as they come: to convert them at once would be to wait for them.
template <class T>
struct Fetched {
  Pack<T, kColumns> mean[kAtOnce];
  float highest[kAtOnce], total[kAtOnce];

  __device__ __forceinline__ Fetched(const Partial<T>* partials, int first, int count, int d) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const Partial<T>& from = partials[min(first + i, count - 1)];
      mean[i] = *reinterpret_cast<const Pack<T, kColumns>*>(from.mean + d);
      highest[i] = from.highest;
      total[i] = from.total;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) attention_merge_kernel(AttentionArgs args, Splits splits) {
  const BatchView& batch = args.batch;
  const int row = splits.first_row + blockIdx.y, head = blockIdx.x * kHeads + threadIdx.x / kLanes;
  const int d = threadIdx.x % kLanes * kColumns;
  if (head >= args.heads) return follow();
  const int64_t t = row;  // rows of one token are the first ones
  const int written = batch.state_write[row], count = (batch.kv_len[row] + kSplit - 1) / kSplit;
  // The gate is older than the kernel before this one.
  float gate[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    gate[c] = to_f32(static_cast<const Bf16*>(args.qg.data)[t * args.qg.stride + (2 * head + 1) * kPartialDim + d + c]);
  }
  follow();
  if (written < 0) return;
  const auto* partials = static_cast<const Partial<T>*>(splits.partials) +
                         (static_cast<int64_t>(blockIdx.y) * args.heads + head) * splits.splits;
  float highest = -INFINITY, total = 0.f, sum[kColumns] = {};
  Fetched<T> next(partials, 0, count, d);
  for (int first = 0; first < count; first += kAtOnce) {
    const Fetched<T> now = next;
    if (first + kAtOnce < count) next = Fetched<T>(partials, first + kAtOnce, count, d);
    float peak = highest;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) peak = fmaxf(peak, now.highest[i]);
    const float keep = __expf(highest - peak);
    highest = peak;
    total *= keep;
    for (float& x : sum) x *= keep;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i >= count) break;
      const float weight = now.total[i] * __expf(now.highest[i] - peak);
      total += weight;
      for (int c = 0; c < kColumns; ++c) sum[c] = fmaf(to_f32(now.mean[i].value[c]), weight, sum[c]);
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
