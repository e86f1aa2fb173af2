#pragma once
// Products of many bf16 rows through cuBLASLt, which uses Hopper's own matrix instructions. An fp8 weight is first
// written out in bf16, q * scale rounded once.
#include <map>
#include <memory>
#include <tuple>

#include "base/result.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/workspace.h"

struct cublasLtContext;

namespace hylas::cuda {

// From this many rows on the library's algorithm is taken, and the order of its sums: one algorithm per shape of the
// matrix, whatever the number of rows. bf16 matrices have another one from kMiddleRows on. Below, the order is
// gemm_bf16's.
constexpr int64_t kLargeRows = 512;
constexpr int64_t kMiddleRows = 129;

// Not thread-safe.
class LargeGemm {
 public:
  static Result<std::unique_ptr<LargeGemm>> make();
  ~LargeGemm();
  // Whether it can and should be this one.
  bool takes(const Product& product, const Workspace& workspace) const;
  void run(const Product& product, Workspace& workspace, Stream stream);

 private:
  LargeGemm() = default;
  struct Algorithm;
  const Algorithm& algorithm(const Product& product, int64_t inputs, int64_t weight_stride);

  cublasLtContext* handle_ = nullptr;
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int, bool>, std::unique_ptr<Algorithm>> algorithms_;
};

}  // namespace hylas::cuda
