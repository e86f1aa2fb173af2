#pragma once
// The GPU's operators with FlashInfer's kernels chosen for prefill, and comparisons that say where they differ.
#include "cuda/parity.h"

namespace hylas::test {

inline std::unique_ptr<Ops> make_flashinfer_ops(size_t workspace_bytes) {
  CudaOpsOptions options;
  options.prefill = {.delta = true, .attention = true};
  options.workspace_bytes = workspace_bytes;
  return make_cuda_ops(options).value();
}
inline Ops& flashinfer_ops() {
  static const std::unique_ptr<Ops> kOps = make_flashinfer_ops(size_t{512} << 20);
  return *kOps;
}

// |got - wanted| / |wanted|, over all elements and in each part of a row (the first of `parts` elements, the next,
// ...); NaN must coincide, a part of zeros is left out. On failure: the worst parts and their worst elements.
inline testing::AssertionResult near_in_parts(const OnDevice& got, const HostTensor& wanted, double relative,
                                              double each, int64_t part) {
  struct Sums {
    double error = 0, size = 0, worst = 0;
    int64_t at = 0;
  };
  const HostTensor mine = got.host();
  const Tensor& b = wanted.view;
  const int64_t parts = b.row_elements() / part;
  Sums all;
  std::string failures;
  int64_t failed = 0, poisons = 0;
  for (int64_t r = 0; r < b.dim(0); ++r) {
    for (int64_t p = 0; p < parts; ++p) {
      Sums sums;
      bool same_poison = true;
      for (int64_t i = p * part; i < (p + 1) * part; ++i) {
        const double x = get(mine.view, r, i), y = get(b, r, i);
        if (std::isnan(x) != std::isnan(y)) same_poison = false;
        if (std::isnan(x) || std::isnan(y)) continue;
        if (std::abs(x - y) > sums.worst) sums.worst = std::abs(x - y), sums.at = i;
        sums.error += (x - y) * (x - y);
        sums.size += y * y;
      }
      all.error += sums.error;
      all.size += sums.size;
      poisons += !same_poison;
      if (same_poison && !(sums.error > each * each * sums.size)) continue;
      if (++failed > 8) continue;
      failures += fmt::format("\n  row {} part {}: relative error {:.3g}, worst at {}: {:.6g}, not {:.6g}{}", r, p,
                              std::sqrt(sums.error / sums.size), sums.at - p * part, get(mine.view, r, sums.at),
                              get(b, r, sums.at), same_poison ? "" : "; NaN on one side alone");
    }
  }
  const double error = std::sqrt(all.error / all.size);
  if (failed == 0 && error <= relative) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "relative error " << error << " (at most " << relative << "), " << failed
                                     << " of " << b.dim(0) * parts << " parts differ by more than " << each << ", "
                                     << poisons << " with NaN on one side" << failures;
}

// The same bytes; else how many elements differ, the first of them and the largest difference.
inline testing::AssertionResult same_bits(const Tensor& a, const Tensor& b) {
  int64_t differ = 0, row = 0, at = 0;
  double most = 0;
  for (int64_t r = 0; r < a.dim(0); ++r) {
    for (int64_t i = 0; i < a.row_elements(); ++i) {
      const double x = get(a, r, i), y = get(b, r, i);
      if (x == y || (std::isnan(x) && std::isnan(y))) continue;
      if (differ++ == 0) row = r, at = i;
      most = std::max(most, std::abs(x - y));
    }
  }
  if (differ == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << differ << " elements differ, by " << most << " at most; first row " << row
                                     << " value " << at << ": " << get(a, row, at) << " and " << get(b, row, at);
}

}  // namespace hylas::test
