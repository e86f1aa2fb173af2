#pragma once
// Activations in FP8 with a scale for each 128 values of a row, as kernels make and read them (ops/act_rows.h).
#include "ops/cuda/views.h"

namespace hylas::cuda {

// q = x / scale in e4m3, scale = max |x| / 448 over the group (1e-10 instead of smaller maxima).
struct Fp8Rows {
  void* data = nullptr;    // [rows, inputs] e4m3, at a multiple of 16 bytes
  float* scale = nullptr;  // [inputs / 128, scale_stride]: column r is row r's
  int64_t rows = 0;
  int64_t inputs = 0;        // a multiple of 128
  int64_t scale_stride = 0;  // rows, rounded up to 4, or more
};

}  // namespace hylas::cuda
