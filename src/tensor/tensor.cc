#include "tensor/tensor.h"

namespace hylas {

Tensor::Tensor(void* memory, DType type, std::initializer_list<int64_t> dims)
    : data(memory), dtype(type), rank(static_cast<int>(dims.size())) {
  HYLAS_CHECK(rank >= 1 && rank <= 4, "a tensor has 1 to 4 dimensions, not {}", rank);
  int axis = 0;
  for (int64_t dim : dims) shape[axis++] = dim;
  row_stride = row_elements();
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  HYLAS_CHECK(begin >= 0 && count >= 0 && begin + count <= shape[0], "rows [{}, {}) of {}", begin, begin + count,
              shape[0]);
  Tensor view = *this;
  view.data = static_cast<std::byte*>(data) + begin * row_stride * dtype_bytes(dtype);
  view.shape[0] = count;
  return view;
}

Tensor Tensor::columns(int64_t begin, int64_t count) const {
  HYLAS_CHECK(rank == 2 && begin >= 0 && begin + count <= shape[1], "columns [{}, {}) of {}", begin, begin + count,
              shape[1]);
  Tensor view = *this;
  view.data = static_cast<std::byte*>(data) + begin * dtype_bytes(dtype);
  view.shape[1] = count;
  return view;
}

Tensor Tensor::reshaped(std::initializer_list<int64_t> dims) const {
  HYLAS_CHECK(contiguous(), "only contiguous memory can be reshaped");
  Tensor view(data, dtype, dims);
  HYLAS_CHECK(view.elements() == elements(), "reshape of {} elements to {}", elements(), view.elements());
  return view;
}

}  // namespace hylas
