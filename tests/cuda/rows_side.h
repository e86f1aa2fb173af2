#pragma once
// Rows in every form on the GPU, and what their e4m3 form has to be.
#include <cstring>

#include "cuda/parity.h"

namespace hylas::test {

// As the engine makes them: DeepGEMM's kernels from 17 rows on.
inline Ops& engine_ops() {
  static const std::unique_ptr<Ops> kOps = [] {
    CudaOpsOptions options;
    options.fp8 = {.linear = true, .experts = true};
    return make_cuda_ops(options).value();
  }();
  return *kOps;
}

// Of the block of values from `begin` on.
inline float scale_of(const Tensor& values, int64_t row, int64_t begin) {
  float most = 1e-10f;
  for (int64_t i = begin; i < begin + kFp8Block; ++i) {
    most = std::max(most, static_cast<float>(std::abs(get(values, row, i))));
  }
  return most / 448.f;
}

// Poisoned room for rows in every form; `gap` elements lie between the values of two rows.
struct RowsOnDevice {
  explicit RowsOnDevice(std::initializer_list<int64_t> dims, int64_t gap = 0)
      : values(poisoned(DType::kBF16, dims, gap)),
        fp8(poisoned(DType::kF8E4M3, {values.view.dim(0), values.view.row_elements()})),
        scales(poisoned(DType::kF32, {values.view.row_elements() / kFp8Block, (values.view.dim(0) + 3) / 4 * 4})) {}
  // Rows of bf16 values on the host, in both forms.
  explicit RowsOnDevice(const Matrix& from) : RowsOnDevice({from.view.dim(0), from.view.dim(1)}) {
    HostTensor x = values.host(), q = fp8.host(), s = scales.host();
    for (int64_t r = 0; r < from.view.dim(0); ++r) {
      for (int64_t i = 0; i < from.view.dim(1); ++i) set(x, r, i, static_cast<float>(element(from.view, r, i)));
      for (int64_t block = 0; block < s.view.dim(0); ++block) {
        const float scale = scale_of(x, r, block * kFp8Block);
        s.view.row<float>(block)[r] = scale;
        for (int64_t i = block * kFp8Block; i < (block + 1) * kFp8Block; ++i) {
          q.view.row<uint8_t>(r)[i] = f32_to_f8e4m3(static_cast<float>(get(x, r, i)) / scale);
        }
      }
    }
    values.fill(x);
    fp8.fill(q);
    scales.fill(s);
  }
  ActRows in(RowForm form) const {
    ActRows rows(values);
    rows.fp8 = fp8;
    rows.scales = scales;
    return rows.in(form);
  }
  OnDevice values, fp8, scales;
};

// `rows` are `values` (bf16) in e4m3, value for value, but for the rows that `skips` names.
template <class Skips>
testing::AssertionResult quantized_like(const RowsOnDevice& rows, const Tensor& values, const Skips& skips) {
  const HostTensor fp8 = rows.fp8.host(), scales = rows.scales.host();
  for (int64_t r = 0; r < values.dim(0); ++r) {
    if (skips(r)) continue;
    for (int64_t begin = 0; begin < values.row_elements(); begin += kFp8Block) {
      const float scale = scale_of(values, r, begin), found = scales.view.row<float>(begin / kFp8Block)[r];
      if (scale != found) {
        return testing::AssertionFailure()
               << "row " << r << " from " << begin << " over " << found << ", not " << scale;
      }
      for (int64_t i = begin; i < begin + kFp8Block; ++i) {
        const uint8_t wanted = f32_to_f8e4m3(static_cast<float>(get(values, r, i)) / scale);
        const uint8_t got = fp8.view.row<uint8_t>(r)[i];
        if (got != wanted && ((got | wanted) & 0x7f) != 0) {  // zeros of either sign
          return testing::AssertionFailure()
                 << "row " << r << " value " << i << " is " << int{got} << ", not " << int{wanted};
        }
      }
    }
  }
  return testing::AssertionSuccess();
}
inline testing::AssertionResult quantized_like(const RowsOnDevice& rows, const Tensor& values) {
  return quantized_like(rows, values, [](int64_t) { return false; });
}

inline bool same_bytes(const OnDevice& a, const OnDevice& b) { return a.host().bytes == b.host().bytes; }

}  // namespace hylas::test
