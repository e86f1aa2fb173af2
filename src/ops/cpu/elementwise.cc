#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {

void silu_mul(ThreadPool& pool, Scratch& scratch, const Tensor& gate, const Tensor& up, const Tensor& out) {
  int64_t width = gate.row_elements(), tokens = gate.dim(0);
  HYLAS_CHECK(
      up.dtype == gate.dtype && out.dtype == gate.dtype && up.row_elements() == width && out.row_elements() == width,
      "silu({}) * {} into {}", width, up.row_elements(), out.row_elements());
  check_act(gate);
  SiluMulArgs args = {rows_of(gate), rows_of(up), rows_of(out), width};
  constexpr int64_t kColumns = 2048;  // at a time, so that one token is work for several threads
  int64_t blocks = (width + kColumns - 1) / kColumns;
  pool.parallel_for(tokens * blocks, 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      int64_t t = item / blocks, column = item % blocks * kColumns;
      scratch.kernels->silu_mul(args, t, t + 1, column, std::min(column + kColumns, width));
    }
  });
}

}  // namespace hylas::cpu
