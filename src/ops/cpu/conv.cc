#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {

void conv_silu(ThreadPool& pool, Scratch& scratch, const Tensor& u, const Tensor& weight, const Tensor& state_pool,
               const Batch& batch, const Tensor& out) {
  int64_t channels = u.dim(1);
  check_act(u);
  HYLAS_CHECK(out.dtype == u.dtype && state_pool.dtype == u.dtype, "conv state of type {} for inputs of type {}",
              dtype_name(state_pool.dtype), dtype_name(u.dtype));
  HYLAS_CHECK(weight.dim(0) == channels && state_pool.dim(1) == channels && state_pool.dim(2) == 3 &&
                  weight.row_elements() == 4 && weight.contiguous(),
              "conv weight [{}, {}] and state [{}, {}] for {} channels", weight.dim(0), weight.row_elements(),
              state_pool.dim(1), state_pool.dim(2), channels);
  ConvArgs args = {.u = rows_of(u),
                   .out = rows_of(out),
                   .weight = weight.data,
                   .weight_dtype = weight.dtype,
                   .pool = rows_of(state_pool),
                   .rows = batch.rows,
                   .row_begin = batch.row_begin.as<int32_t>(),
                   .state_read = batch.state_read.as<int32_t>(),
                   .state_write = batch.state_write.as<int32_t>()};
  pool.parallel_for(channels, kConvChannels, [&](int64_t begin, int64_t end, int) {
    for (int64_t channel = begin; channel < end; channel += kConvChannels) {
      scratch.kernels->conv_silu(args, channel, std::min(channel + kConvChannels, end));
    }
  });
}

}  // namespace hylas::cpu
