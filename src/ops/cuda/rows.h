#pragma once
// Copies of rows, the gate product: rows.cu.
#include "ops/cuda/views.h"

namespace hylas::cuda {

// out[i] = x[index[i] - first], converted to out's type; zeros where that is no row of x.
void take_rows(const View& x, int64_t x_rows, const int32_t* index, int32_t first, int64_t count, int64_t columns,
               const View& out, Stream stream);
// The same, but rows of out whose row of x there is not are left as they are.
void take_rows_there(const View& x, int64_t x_rows, const int32_t* index, int64_t count, int64_t columns,
                     const View& out, Stream stream);
// out[t, column ...] = x[t], of the same type.
void copy_columns(const View& x, int64_t rows, int64_t columns, const View& out, Stream stream);
// out = silu(gate) * up
void silu_mul_rows(const View& gate, const View& up, const View& out, int64_t rows, int64_t columns, Stream stream);

}  // namespace hylas::cuda
