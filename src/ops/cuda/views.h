#pragma once
// Tensors as kernels take them: plain values, no host framework. Every launcher of this folder is asynchronous in
// `stream`, allocates nothing and ends with a check of the launch.
#include <cstdint>

#include "tensor/dtype.h"

struct CUstream_st;

namespace hylas::cuda {

using Stream = CUstream_st*;

// A matrix: rows of `stride` elements.
struct View {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t stride = 0;
};

// ops/batch.h on the device.
struct BatchView {
  int32_t tokens = 0;
  int32_t rows = 0;
  int32_t decode_rows = 0;
  int32_t page_size = 64;
  const int32_t* row_begin = nullptr;
  const int32_t* kv_len = nullptr;
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  int32_t pages_max = 0;  // columns of the page table
  const int32_t* state_read = nullptr;
  const int32_t* state_write = nullptr;
};

}  // namespace hylas::cuda
