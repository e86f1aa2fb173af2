#pragma once
// Tensors as the kernels take them, and how much work is worth a hand-over to another thread.
#include <algorithm>

#include "ops/cpu/other_kernels.h"
#include "tensor/tensor.h"

namespace hylas::cpu {

inline Rows rows_of(const Tensor& tensor) { return {tensor.data, tensor.dtype, tensor.row_stride}; }

// Grain of a loop over rows of `width` simple elements.
inline int64_t rows_at_least(int64_t width) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(width, 1)); }

// [T, k] f32 | bf16 and the like: aborts on another type.
inline void check_act(const Tensor& tensor) {
  HYLAS_CHECK(tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16, "an activation of type {}",
              dtype_name(tensor.dtype));
}

}  // namespace hylas::cpu
