#pragma once
// A stored tensor seen as a matrix, and blocks of its scale: what the sources share.
#include <algorithm>
#include <span>

#include "ops/weight.h"
#include "weights/source.h"

namespace hylas {

// Rows and columns of a stored tensor as WeightSource::Part counts them.
struct MatrixShape {
  int64_t rows = 1;
  int64_t columns = 1;
};
inline MatrixShape matrix_shape(std::span<const int64_t> shape) {
  MatrixShape matrix;
  const size_t inner = shape.size() > 1 ? shape.size() - 1 : shape.size();
  for (size_t i = 0; i < inner; ++i) matrix.rows *= shape[i];
  if (shape.size() > 1) matrix.columns = shape.back();
  return matrix;
}

// `range` within `size`, with its count filled in.
inline Range resolve(Range range, int64_t size) { return {range.begin, range.count < 0 ? size : range.count}; }
inline bool within(Range range, int64_t size) { return range.begin >= 0 && range.begin + range.count <= size; }

// The scale's blocks of a range of elements that begins at a block; all stays all.
inline Range scale_range(Range range) {
  if (range.count < 0) return range;
  return {range.begin / kFp8Block, (range.count + kFp8Block - 1) / kFp8Block};
}

}  // namespace hylas
