#include "ops/cuda/attention_gather.h"

#include "ops/cuda/attention_bf16.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kLanes = kDim / 8;  // of one position: a lane has eight dimensions
constexpr int kTogether = 8;      // positions

// 64 positions of one row and head. What is read behind the last position is zero: it is multiplied by weights of zero.
template <class K>
__global__ void __launch_bounds__(kLanes* kTogether) gather_kv_kernel(AttentionArgs args, GatheredKv to) {
  const BatchView& batch = args.batch;
  const int row = to.first_row + static_cast<int>(blockIdx.y);
  const int end = batch.kv_len[row], head = static_cast<int>(blockIdx.z) % to.heads;
  const bool is_value = static_cast<int>(blockIdx.z) >= to.heads;
  const int begin = static_cast<int>(blockIdx.x) * kBlockKeys;
  if (begin >= end || batch.state_write[row] < 0) return;
  const K* pages = static_cast<const K*>(is_value ? args.v_pages : args.k_pages);
  Bf16* out = static_cast<Bf16*>(is_value ? to.v : to.k) +
              ((static_cast<int64_t>(head) * to.rows + blockIdx.y) * to.row_keys + begin) * kDim;
  for (int i = threadIdx.x / kLanes; i < kBlockKeys; i += kTogether) {
    const int position = begin + i, dim = static_cast<int>(threadIdx.x) % kLanes * 8;
    uint4 eight = {};
    if (position < end) {
      const int64_t page = batch.page_table[row * batch.page_table_stride + position / batch.page_size];
      eight = load_8(
          pages + page * args.page_stride +
          (static_cast<int64_t>(to.first_head + head) * batch.page_size + position % batch.page_size) * kDim + dim);
    }
    *reinterpret_cast<uint4*>(out + i * kDim + dim) = eight;
  }
}

}  // namespace

void gather_kv(const AttentionArgs& args, const GatheredKv& to, Stream stream) {
  const dim3 grid(static_cast<unsigned>(to.row_keys / kBlockKeys), static_cast<unsigned>(to.rows),
                  static_cast<unsigned>(2 * to.heads));
  if (args.kv_dtype == DType::kF8E4M3) {
    gather_kv_kernel<F8><<<grid, kLanes * kTogether, 0, stream>>>(args, to);
  } else {
    gather_kv_kernel<Bf16><<<grid, kLanes * kTogether, 0, stream>>>(args, to);
  }
  check_launch("attention (keys and values for flashinfer)");
}

}  // namespace hylas::cuda
