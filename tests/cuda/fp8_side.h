#pragma once
// The GPU's operators with the FP8 tensor cores chosen for every number of rows, and the reference for activations in
// FP8: x as it is after quantization, so that the CPU's operators on it are the definition.
#include <functional>

#include "cuda/parity.h"

namespace hylas::test {

inline Ops& fp8_ops() {
  static const std::unique_ptr<Ops> kOps = [] {
    CudaOpsOptions options;
    options.fp8 = {.linear = true, .experts = true, .rows_min = 1, .expert_rows_min = 0};
    return make_cuda_ops(options).value();
  }();
  return *kOps;
}

inline void on_fp8(const std::function<void(Ops&)>& call) { run_on(fp8_ops(), call); }

// Groups of 128 values of a row: q = x / scale in e4m3, scale = max |x| / 448; here q * scale, f32.
inline Matrix quantized(const Tensor& x) {
  Matrix result = poisoned_matrix(DType::kF32, x.dim(0), x.dim(1));
  for (int64_t r = 0; r < x.dim(0); ++r) {
    for (int64_t begin = 0; begin < x.dim(1); begin += kFp8Block) {
      float most = 1e-10f;
      const int64_t end = std::min(begin + kFp8Block, x.dim(1));
      for (int64_t c = begin; c < end; ++c) most = std::max(most, std::abs(static_cast<float>(element(x, r, c))));
      const float scale = most / 448.f;
      for (int64_t c = begin; c < end; ++c) {
        const float q = f8e4m3_to_f32(f32_to_f8e4m3(static_cast<float>(element(x, r, c)) / scale));
        set_element(result.view, r, c, q * scale);
      }
    }
  }
  return result;
}

}  // namespace hylas::test
