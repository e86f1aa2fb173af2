#include <cstring>

#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {
namespace {

// Prefill rows first: they are the longer ones.
void cut_items(const Batch& batch, int32_t heads, std::vector<WorkItem>& items) {
  items.clear();
  const int32_t* row_begin = batch.row_begin.as<int32_t>();
  for (int32_t r = batch.rows - 1; r >= 0; --r) {
    if (batch.state_write.as<int32_t>()[r] < 0 || row_begin[r] == row_begin[r + 1]) continue;
    for (int32_t head = 0; head < heads; ++head) items.push_back({r, head, row_begin[r], row_begin[r + 1]});
  }
}

// A row without tokens passes its state on.
void copy_state(const Batch& batch, const Tensor& state_pool) {
  const int32_t* row_begin = batch.row_begin.as<int32_t>();
  for (int32_t r = 0; r < batch.rows; ++r) {
    int32_t from = batch.state_read.as<int32_t>()[r], to = batch.state_write.as<int32_t>()[r];
    if (row_begin[r] != row_begin[r + 1] || to < 0 || from == to) continue;
    size_t bytes = static_cast<size_t>(state_pool.row_elements() * dtype_bytes(state_pool.dtype));
    if (from < 0) {
      std::memset(state_pool.rows(to, 1).data, 0, bytes);
    } else {
      std::memcpy(state_pool.rows(to, 1).data, state_pool.rows(from, 1).data, bytes);
    }
  }
}

}  // namespace

void delta_rule(ThreadPool& pool, Scratch& scratch, const Tensor& qkv, const Tensor& a, const Tensor& b,
                const Tensor& a_log, const Tensor& dt_bias, const DeltaShape& shape, const Tensor& state_pool,
                const Batch& batch, const Tensor& out) {
  check_act(qkv);
  HYLAS_CHECK(out.dtype == qkv.dtype && qkv.row_elements() == shape.channels() &&
                  out.row_elements() == shape.value_heads * shape.value_dim,
              "delta rule over {} channels of {}", qkv.row_elements(), shape.channels());
  HYLAS_CHECK(state_pool.dim(1) == shape.value_heads && state_pool.dim(2) == shape.key_dim &&
                  state_pool.dim(3) == shape.value_dim && shape.key_dim % 4 == 0,
              "delta rule states [{}, {}, {}]", state_pool.dim(1), state_pool.dim(2), state_pool.dim(3));
  DeltaArgs args = {.qkv = rows_of(qkv),
                    .a = rows_of(a),
                    .b = rows_of(b),
                    .out = rows_of(out),
                    .a_log = a_log.data,
                    .a_log_dtype = a_log.dtype,
                    .dt_bias = dt_bias.data,
                    .dt_bias_dtype = dt_bias.dtype,
                    .key_heads = shape.key_heads,
                    .value_heads = shape.value_heads,
                    .key_dim = shape.key_dim,
                    .value_dim = shape.value_dim,
                    .pool = rows_of(state_pool)};
  copy_state(batch, state_pool);
  cut_items(batch, shape.value_heads, scratch.items);
  size_t floats = static_cast<size_t>(scratch.kernels->delta_floats(args));
  const int32_t* row_begin = batch.row_begin.as<int32_t>();
  pool.parallel_items(static_cast<int64_t>(scratch.items.size()), [&](int64_t index, int thread) {
    const WorkItem& work = scratch.items[static_cast<size_t>(index)];
    DeltaItem item = {
        .head = work.head,
        .token_begin = work.token_begin,
        .token_end = work.token_end,
        .position = batch.kv_len.as<int32_t>()[work.row] - (row_begin[work.row + 1] - row_begin[work.row]),
        .state_read = batch.state_read.as<int32_t>()[work.row],
        .state_write = batch.state_write.as<int32_t>()[work.row]};
    float* memory = scratch.threads[static_cast<size_t>(thread)].floats.take(floats);
    (work.row < batch.decode_rows ? scratch.kernels->delta_decode : scratch.kernels->delta_prefill)(args, item, memory);
  });
}

}  // namespace hylas::cpu
