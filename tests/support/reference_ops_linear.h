#pragma once
// The matrix products of ops.h in plain scalar code and double precision, and matrices to try them on.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace hylas::test {

// A matrix in its own memory whose rows lie `stride` apart; everything between rows and around them is NaN.
struct Matrix {
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  Tensor view;
  Tensor scale;  // fp8 only
  LinearWeight weight() const { return {view, scale}; }
};

inline double element(const Tensor& matrix, int64_t row, int64_t column) {
  switch (matrix.dtype) {
    case DType::kF32:
      return matrix.row<float>(row)[column];
    case DType::kBF16:
      return bf16_to_f32(matrix.row<uint16_t>(row)[column]);
    case DType::kF8E4M3:
      return f8e4m3_to_f32(matrix.row<uint8_t>(row)[column]);
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

inline double weight_element(const LinearWeight& weight, int64_t row, int64_t column) {
  double value = element(weight.weight, row, column);
  return weight.scale ? value * weight.scale.row<float>(row / kFp8Block)[column / kFp8Block] : value;
}

inline void set_element(const Tensor& matrix, int64_t row, int64_t column, float value) {
  switch (matrix.dtype) {
    case DType::kF32:
      matrix.row<float>(row)[column] = value;
      return;
    case DType::kBF16:
      matrix.row<uint16_t>(row)[column] = f32_to_bf16(value);
      return;
    case DType::kF8E4M3:
      matrix.row<uint8_t>(row)[column] = f32_to_f8e4m3(value);
      return;
    default:
      HYLAS_CHECK(false, "no matrix of {}", dtype_name(matrix.dtype));
  }
}

// [rows, columns] of NaN, `gap` more columns between rows.
inline Matrix poisoned_matrix(DType dtype, int64_t rows, int64_t columns, int64_t gap = 0) {
  Matrix matrix;
  // 0xff is a NaN in f32, bf16 and fp8.
  matrix.bytes.assign(static_cast<size_t>((rows * (columns + gap) + 1) * dtype_bytes(dtype)), std::byte{0xff});
  matrix.view = Tensor(matrix.bytes.data(), dtype, {rows, columns});
  matrix.view.row_stride = columns + gap;
  return matrix;
}

// Normal values of standard deviation `size`; fp8: values up to 448 and scales that bring them to that size.
inline Matrix random_matrix(std::mt19937& random, DType dtype, int64_t rows, int64_t columns, float size,
                            int64_t gap = 0) {
  Matrix matrix = poisoned_matrix(dtype, rows, columns, gap);
  bool fp8 = dtype == DType::kF8E4M3;
  std::normal_distribution<float> normal(0.f, fp8 ? 100.f : size);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) set_element(matrix.view, r, c, normal(random));
  }
  if (fp8) {
    int64_t across = (columns + kFp8Block - 1) / kFp8Block;
    int64_t down = (rows + kFp8Block - 1) / kFp8Block;
    std::uniform_real_distribution<float> factor(0.5f, 2.f);
    matrix.scales.resize(static_cast<size_t>(down * across));
    for (float& scale : matrix.scales) scale = factor(random) * size / 100.f;
    matrix.scale = Tensor(matrix.scales.data(), DType::kF32, {down, across});
  }
  return matrix;
}

// Product of x row `t` and weight row `n` over columns [begin, end), and the sum of the products' magnitudes: a float
// sum may be off by a few units in the last place of that.
struct ReferenceSum {
  double value = 0;
  double magnitude = 0;
};
inline ReferenceSum reference_dot(const Tensor& x, const LinearWeight& weight, int64_t t, int64_t n, int64_t begin,
                                  int64_t end) {
  ReferenceSum sum;
  for (int64_t k = begin; k < end; ++k) {
    double product = element(x, t, k) * weight_element(weight, n, k);
    sum.value += product;
    sum.magnitude += std::abs(product);
  }
  return sum;
}

// Value as an activation of `dtype` holds it.
inline double rounded(double value, DType dtype) {
  return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(static_cast<float>(value))) : value;
}

inline std::vector<double> reference_mlp_hidden(const Tensor& x, int64_t t, const LinearWeight& gate,
                                                const LinearWeight& up) {
  std::vector<double> hidden;
  for (int64_t i = 0; i < gate.weight.dim(0); ++i) {
    double g = rounded(reference_dot(x, gate, t, i, 0, x.dim(1)).value, x.dtype);
    double u = rounded(reference_dot(x, up, t, i, 0, x.dim(1)).value, x.dtype);
    hidden.push_back(rounded(g / (1 + std::exp(-g)) * u, x.dtype));
  }
  return hidden;
}

}  // namespace hylas::test
