#pragma once
// Tensor: a non-owning view of device or host memory. Copy it freely; whoever made the memory outlives it.
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/check.h"
#include "tensor/dtype.h"

namespace hylas {

// Up to four dimensions. All dimensions but the first are contiguous; `row_stride` is the distance in elements between
// neighbours along dimension 0, so that a column slice of a matrix is a view too.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, 4> shape = {1, 1, 1, 1};
  int64_t row_stride = 0;

  Tensor() = default;
  Tensor(void* memory, DType type, std::initializer_list<int64_t> dims);

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int axis) const { return shape[axis]; }
  int64_t row_elements() const { return shape[1] * shape[2] * shape[3]; }
  int64_t elements() const { return shape[0] * row_elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * dtype_bytes(dtype); }
  bool contiguous() const { return row_stride == row_elements() || shape[0] == 1; }

  // The memory as T*; T's size must be the element's. No check of the kind: bf16 and f16 are read as uint16_t.
  template <class T>
  T* as() const {
    HYLAS_CHECK(sizeof(T) == static_cast<size_t>(dtype_bytes(dtype)), "element of {} bytes read as {}",
                dtype_bytes(dtype), sizeof(T));
    return static_cast<T*>(data);
  }
  template <class T>
  T* row(int64_t index) const {
    return as<T>() + index * row_stride;
  }
  // Rows [begin, begin + count) along dimension 0.
  Tensor rows(int64_t begin, int64_t count) const;
  // Columns [begin, begin + count) of a matrix [rows, columns].
  Tensor columns(int64_t begin, int64_t count) const;
  // The same contiguous memory under other dimensions.
  Tensor reshaped(std::initializer_list<int64_t> dims) const;
};

}  // namespace hylas
