#include "ops/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver's, found at run time: the program does not link the driver.
Encode encode() {
  static const Encode kFound = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
          "the search for cuTensorMapEncodeTiled");
    HYLAS_CHECK(result == cudaDriverEntryPointSuccess && found, "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(found);
  }();
  return kFound;
}

CUtensorMapDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
}

}  // namespace

CUtensorMap tensor_map(const MatrixMap& map) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(map.columns), static_cast<cuuint64_t>(map.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(map.stride * dtype_bytes(map.dtype))};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(map.box_columns), static_cast<cuuint32_t>(map.box_rows)};
  const cuuint32_t steps[] = {1, 1};
  CUtensorMap made;
  const CUresult status =
      encode()(&made, type_of(map.dtype), 2, map.data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               map.swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  HYLAS_CHECK(status == CUDA_SUCCESS, "error {} for a map of {} x {} {} at {}, rows {} apart, boxes of {} x {}",
              static_cast<int>(status), map.rows, map.columns, dtype_name(map.dtype), map.data, map.stride,
              map.box_rows, map.box_columns);
  return made;
}

CUtensorMap tensor_map(const RowGroupsMap& map) {
  constexpr cuuint64_t kRows = 8;
  const auto stride = static_cast<cuuint64_t>(map.stride);
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(map.columns), kRows, static_cast<cuuint64_t>(map.matrices),
                              static_cast<cuuint64_t>(map.groups)};
  const cuuint64_t strides[] = {stride, static_cast<cuuint64_t>(map.matrix_stride), kRows * stride};
  const cuuint32_t box[] = {128, kRows, static_cast<cuuint32_t>(map.box_matrices),
                            static_cast<cuuint32_t>(map.box_groups)};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  CUtensorMap made;
  const CUresult status = encode()(&made, CU_TENSOR_MAP_DATA_TYPE_UINT8, 4, const_cast<void*>(map.data), sizes, strides,
                                   box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  HYLAS_CHECK(status == CUDA_SUCCESS, "error {} for a map of {} matrices of {} x {} at {}, {} apart, rows {} apart",
              static_cast<int>(status), map.matrices, map.groups * 8, map.columns, map.data, map.matrix_stride,
              map.stride);
  return made;
}

}  // namespace hylas::cuda
