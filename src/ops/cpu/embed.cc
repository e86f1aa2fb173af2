// Copies of rows: token embeddings, gathers, conversion, concatenation.
#include <cstring>

#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {
namespace {

constexpr int64_t kRowsAtLeast = 16;  // fewer are not worth a hand-over

void convert_row(const Tensor& from, int64_t from_row, const Tensor& to, int64_t to_row) {
  int64_t count = from.row_elements();
  if (from.dtype == to.dtype) {
    int64_t bytes = dtype_bytes(from.dtype);
    std::memcpy(static_cast<std::byte*>(to.data) + to_row * to.row_stride * bytes,
                static_cast<const std::byte*>(from.data) + from_row * from.row_stride * bytes,
                static_cast<size_t>(count * bytes));
  } else if (from.dtype == DType::kBF16) {
    const uint16_t* source = from.row<uint16_t>(from_row);
    float* target = to.row<float>(to_row);
    for (int64_t i = 0; i < count; ++i) target[i] = bf16_to_f32(source[i]);
  } else {
    const float* source = from.row<float>(from_row);
    uint16_t* target = to.row<uint16_t>(to_row);
    for (int64_t i = 0; i < count; ++i) target[i] = f32_to_bf16(source[i]);
  }
}

void clear_row(const Tensor& out, int64_t row) {
  int64_t bytes = dtype_bytes(out.dtype);
  std::memset(static_cast<std::byte*>(out.data) + row * out.row_stride * bytes, 0,
              static_cast<size_t>(out.row_elements() * bytes));
}

}  // namespace

void embed(ThreadPool& pool, const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out) {
  check_act(table);
  check_act(out);
  HYLAS_CHECK(table.row_elements() == out.row_elements() && ids.dim(0) >= out.dim(0), "rows of {} values into {}",
              table.row_elements(), out.row_elements());
  const int32_t* token = ids.as<int32_t>();
  pool.parallel_for(out.dim(0), kRowsAtLeast, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t row = int64_t{token[i]} - vocab_begin;
      row >= 0 && row < table.dim(0) ? convert_row(table, row, out, i) : clear_row(out, i);
    }
  });
}

void gather_rows(ThreadPool& pool, const Tensor& x, const Tensor& index, const Tensor& out) {
  HYLAS_CHECK(x.dtype == out.dtype, "a gather does not convert");
  HYLAS_CHECK(x.row_elements() == out.row_elements() && index.dim(0) >= out.dim(0), "rows of {} values into {}",
              x.row_elements(), out.row_elements());
  const int32_t* from = index.as<int32_t>();
  pool.parallel_for(out.dim(0), kRowsAtLeast, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      HYLAS_CHECK(from[i] >= 0 && from[i] < x.dim(0), "row {} of {}", from[i], x.dim(0));
      convert_row(x, from[i], out, i);
    }
  });
}

void convert(ThreadPool& pool, const Tensor& x, const Tensor& out) {
  check_act(x);
  check_act(out);
  HYLAS_CHECK(x.row_elements() == out.row_elements() && x.dim(0) == out.dim(0), "[{}, {}] into [{}, {}]", x.dim(0),
              x.row_elements(), out.dim(0), out.row_elements());
  pool.parallel_for(x.dim(0), kRowsAtLeast, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) convert_row(x, i, out, i);
  });
}

void concat_columns(ThreadPool& pool, const Tensor& a, const Tensor& b, const Tensor& out) {
  int64_t left = a.dim(1), right = b.dim(1);
  HYLAS_CHECK(out.dim(1) == left + right && a.dim(0) == b.dim(0), "[{} | {}] into {}", left, right, out.dim(1));
  pool.parallel_for(a.dim(0), kRowsAtLeast, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      convert_row(a, t, out.columns(0, left), t);
      convert_row(b, t, out.columns(left, right), t);
    }
  });
}

}  // namespace hylas::cpu
