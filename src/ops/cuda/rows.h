#pragma once
// Copies of rows, the gate product: rows.cu.
#include "ops/cuda/fp8_rows.h"

namespace hylas::cuda {

// out[i] = x[index[i] - first], converted to out's type; zeros where that is no row of x.
void take_rows(const View& x, int64_t x_rows, const int32_t* index, int32_t first, int64_t count, int64_t columns,
               const View& out, Stream stream);
// The same, but rows of out whose row of x there is not are left as they are.
void take_rows_there(const View& x, int64_t x_rows, const int32_t* index, int64_t count, int64_t columns,
                     const View& out, Stream stream);
// out[t, column ...] = x[t], of the same type.
void copy_columns(const View& x, int64_t rows, int64_t columns, const View& out, Stream stream);
struct SiluMulArgs {
  View gate, up;
  View out;     // data null: not as values
  Fp8Rows fp8;  // data null: not quantized
  int64_t rows = 0;
  int64_t columns = 0;
};
// Whether several columns are taken at a time; else, or of f32, nothing is quantized.
bool silu_mul_is_wide(const SiluMulArgs& args);
// out = silu(gate) * up
void silu_mul_rows(const SiluMulArgs& args, Stream stream);

}  // namespace hylas::cuda
