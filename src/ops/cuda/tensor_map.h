#pragma once
// Tensor maps: how the copy engine of a multiprocessor finds a tile of a matrix in memory.
#include <cuda.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace hylas::cuda {

// A matrix of `rows` rows of `columns` elements (kU8, kBF16 or kF32), `stride` apart, read and written in boxes of
// box_rows x box_columns. What a box has outside reads as zeros and is not written. `swizzled`: rows of 128 bytes lie
// in shared memory as the tensor cores want them. `data` and the stride in bytes are multiples of 16.
struct MatrixMap {
  void* data = nullptr;
  DType dtype = DType::kU8;
  int64_t rows = 0, columns = 0, stride = 0;
  int32_t box_rows = 0, box_columns = 0;
  bool swizzled = true;
};

// Several e4m3 matrices of `columns` columns and whole groups of 8 rows, matrix_stride bytes apart. A box is, of
// box_groups groups one after another, the 8 rows of each of box_matrices neighbouring matrices, in 128 columns;
// swizzled. Its coordinates: column, 0, matrix, group.
struct RowGroupsMap {
  const void* data = nullptr;
  int64_t matrices = 1, groups = 0, columns = 0;
  int64_t matrix_stride = 0, stride = 0;
  int32_t box_matrices = 1, box_groups = 0;
};

// A failure aborts with the numbers: the caller has checked them.
CUtensorMap tensor_map(const MatrixMap& map);
CUtensorMap tensor_map(const RowGroupsMap& map);

}  // namespace hylas::cuda
