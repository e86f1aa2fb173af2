#pragma once
// The two small products that attention and the delta rule are made of. Every element is summed in an order that
// depends on the inner length alone, so neither the number of rows nor their grouping changes a bit. Included by
// other_kernels_<isa>.cc.
#include "ops/cpu/storage.h"

namespace hylas::cpu {

constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Columns of a panel: two vectors.
template <class V>
constexpr int64_t kPanel = 2 * V::kLanes;

// out[r][c] = a[r] . b[c] over `count` values, a multiple of kLanes; C is 1 or a multiple of 4.
template <class V, int R, int C>
HYLAS_INLINE void dot_block(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t count,
                            float* out, int64_t out_stride) {
  using F = typename V::F;
  F sums[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sums[r][c] = V::zero();
  }
  for (int64_t i = 0; i < count; i += V::kLanes) {
    F left[R];
    for (int r = 0; r < R; ++r) left[r] = V::load(a + r * a_stride + i);
    for (int c = 0; c < C; ++c) {
      F right = V::in_register(V::load(b + c * b_stride + i));  // or GCC loads it for every use: too many loads
      for (int r = 0; r < R; ++r) sums[r][c] = V::fma(left[r], right, sums[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    if constexpr (C == 1) {
      out[r * out_stride] = V::sum(sums[r][0]);
    } else {
      for (int c = 0; c < C; c += 4) {
        V::sum4(sums[r][c], sums[r][c + 1], sums[r][c + 2], sums[r][c + 3], out + r * out_stride + c);
      }
    }
  }
}

// out[r][c] = a[r] . b[c] for `rows` of a and C rows of b.
template <class V, int C>
HYLAS_INLINE void dot_columns(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t b_stride,
                              int64_t count, float* out, int64_t out_stride) {
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2) {
    dot_block<V, 2, C>(a + r * a_stride, a_stride, b, b_stride, count, out + r * out_stride, out_stride);
  }
  if (r < rows) dot_block<V, 1, C>(a + r * a_stride, a_stride, b, b_stride, count, out + r * out_stride, out_stride);
}

template <class V>
void dots(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t b_stride, int64_t columns,
          int64_t count, float* out, int64_t out_stride) {
  int64_t c = 0;
  for (; c + 4 <= columns; c += 4) {
    dot_columns<V, 4>(a, a_stride, rows, b + c * b_stride, b_stride, count, out + c, out_stride);
  }
  for (; c < columns; ++c) {
    dot_columns<V, 1>(a, a_stride, rows, b + c * b_stride, b_stride, count, out + c, out_stride);
  }
}

// Where a[r][i] stands: a[r * row + i * inner]; so a transposed matrix is read as it lies.
struct Strides {
  int64_t row, inner;
};

// c[r] += sum over i < count, ascending, of a[r][i] * b[i]; b [count][kPanel], c rows are kPanel wide.
template <class V, int R>
HYLAS_INLINE void panel_rows(const float* a, Strides stride, const float* b, int64_t count, float* c,
                             int64_t c_stride) {
  using F = typename V::F;
  F low[R], high[R];
  for (int r = 0; r < R; ++r) {
    low[r] = V::load(c + r * c_stride);
    high[r] = V::load(c + r * c_stride + V::kLanes);
  }
  for (int64_t i = 0; i < count; ++i) {
    F b_low = V::load(b + i * kPanel<V>), b_high = V::load(b + i * kPanel<V> + V::kLanes);
    for (int r = 0; r < R; ++r) {
      F factor = V::set(a[r * stride.row + i * stride.inner]);
      low[r] = V::fma(factor, b_low, low[r]);
      high[r] = V::fma(factor, b_high, high[r]);
    }
  }
  for (int r = 0; r < R; ++r) {
    V::store(c + r * c_stride, low[r]);
    V::store(c + r * c_stride + V::kLanes, high[r]);
  }
}

template <class V>
void panel_product(const float* a, Strides stride, int64_t rows, const float* b, int64_t count, float* c,
                   int64_t c_stride) {
  int64_t r = 0;
  for (; r + 6 <= rows && rows - r != 8; r += 6) {
    panel_rows<V, 6>(a + r * stride.row, stride, b, count, c + r * c_stride, c_stride);
  }
  for (; r + 4 <= rows; r += 4) {
    panel_rows<V, 4>(a + r * stride.row, stride, b, count, c + r * c_stride, c_stride);
  }
  for (; r + 2 <= rows; r += 2) {
    panel_rows<V, 2>(a + r * stride.row, stride, b, count, c + r * c_stride, c_stride);
  }
  if (r < rows) panel_rows<V, 1>(a + r * stride.row, stride, b, count, c + r * c_stride, c_stride);
}

// x *= factor over `count` values, a multiple of kLanes.
template <class V>
HYLAS_INLINE void scale(float* x, int64_t count, float factor) {
  for (int64_t i = 0; i < count; i += V::kLanes) V::store(x + i, V::mul(V::load(x + i), V::set(factor)));
}

template <class V>
HYLAS_INLINE void clear(float* x, int64_t count) {
  for (int64_t i = 0; i < count; i += V::kLanes) V::store(x + i, V::zero());
}

}  // namespace hylas::cpu
