#include "tensor/arena.h"

#include <algorithm>

namespace hylas {

Tensor Arena::allocate(DType dtype, std::initializer_list<int64_t> dims) {
  Tensor tensor(memory_, dtype, dims);
  tensor.data = memory_ + used_;
  size_t padded = (tensor.bytes() + 63) / 64 * 64;
  HYLAS_CHECK(used_ + padded <= bytes_, "arena of {} bytes is too small: {} used, {} wanted", bytes_, used_, padded);
  used_ += padded;
  peak_ = std::max(peak_, used_);
  return tensor;
}

}  // namespace hylas
