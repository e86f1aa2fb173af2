#include "ops/cuda/gemm_large.h"

#include <cublasLt.h>

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
// What algorithms are chosen for.
constexpr int64_t kRowsTypical = 8192;
constexpr int64_t kMiddleRowsTypical = 256;
constexpr int64_t kMiddleOutputs = 1024;  // fewer are not worth a launch of their own

void check(cublasStatus_t status, const char* what) {
  HYLAS_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt failed in {}: {}", what, cublasLtGetStatusString(status));
}

// The library thinks in columns: out^T [outputs, rows] = (W^T)^T x^T.
struct Problem {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weight, x, out;
};

void describe(const Product& p, int64_t rows, int64_t inputs, int64_t weight_stride, Problem& problem) {
  const cudaDataType_t out_type = p.out.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  check(cublasLtMatmulDescInit(&problem.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a description");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(cublasLtMatmulDescSetAttribute(&problem.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
        "a description");
  check(cublasLtMatrixLayoutInit(&problem.weight, CUDA_R_16BF, inputs, p.outputs, weight_stride), "a layout");
  check(cublasLtMatrixLayoutInit(&problem.x, CUDA_R_16BF, inputs, rows, p.x.stride), "a layout");
  check(cublasLtMatrixLayoutInit(&problem.out, out_type, p.outputs, rows, p.out.stride), "a layout");
}

// All slices, of `inputs` each, in one call.
void describe_batch(const Product& p, int64_t inputs, Problem& problem) {
  const auto set = [&](cublasLtMatrixLayoutOpaque_t& layout, int64_t stride) {
    const int32_t count = p.slices;
    check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "a layout");
    check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                           sizeof stride),
          "a layout");
  };
  set(problem.weight, inputs);
  set(problem.x, inputs);
  set(problem.out, p.slice_stride);
}

bool is_middle(const Product& p) { return p.rows < kLargeRows; }

// Whether the slices go in one call: of equal widths, and few rows, which leave multiprocessors idle.
bool in_one_call(const Product& p) {
  const int64_t width = p.slice_begin[1] - p.slice_begin[0];
  return p.slices > 1 && is_middle(p) && width * p.slices == p.inputs;
}

bool at_16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

struct LargeGemm::Algorithm {
  cublasLtMatmulAlgo_t value;
};

Result<std::unique_ptr<LargeGemm>> LargeGemm::make() {
  std::unique_ptr<LargeGemm> gemm(new LargeGemm);
  if (cublasStatus_t status = cublasLtCreate(&gemm->handle_); status != CUBLAS_STATUS_SUCCESS) {
    return error(ErrorCode::kUnsupported, "cuBLASLt does not start: {}", cublasLtGetStatusString(status));
  }
  return gemm;
}

LargeGemm::~LargeGemm() {
  if (handle_) cublasLtDestroy(handle_);
}

bool LargeGemm::takes(const Product& p, const Workspace& workspace) const {
  const bool fp8 = p.weight_dtype == DType::kF8E4M3;
  const int64_t out_unit = 16 / dtype_bytes(p.out.dtype);
  if (is_middle(p) && (fp8 || p.rows < kMiddleRows || p.outputs < kMiddleOutputs)) return false;
  if (p.x.dtype != DType::kBF16 || p.weights || p.paired || p.x_index || p.out_index) {
    return false;
  }
  if (!fp8 && (p.weight_dtype != DType::kBF16 || p.weight.stride % 8 != 0 || !at_16(p.weight.data))) return false;
  if (fp8 && (p.inputs % 16 != 0 || p.weight.stride % 16 != 0 || !at_16(p.weight.data))) return false;
  const size_t copy_bytes = fp8 ? static_cast<size_t>(p.outputs * p.inputs) * 2 : 0;
  for (int s = 0; s < p.slices; ++s) {
    if (p.slice_begin[s] % 8 != 0 || p.slice_begin[s] == p.slice_begin[s + 1]) return false;
  }
  return p.inputs % 8 == 0 && p.outputs % 8 == 0 && p.x.stride % 8 == 0 && at_16(p.x.data) && at_16(p.out.data) &&
         p.out.stride % out_unit == 0 && p.slice_stride % out_unit == 0 &&
         copy_bytes + kWorkspaceBytes + 1024 <= workspace.bytes_left();
}

const LargeGemm::Algorithm& LargeGemm::algorithm(const Product& p, int64_t inputs, int64_t weight_stride) {
  auto& found = algorithms_[{p.outputs, inputs, weight_stride, p.x.stride, p.out.stride,
                             static_cast<int>(p.out.dtype), is_middle(p)}];
  if (found) return *found;
  Problem problem;
  describe(p, is_middle(p) ? kMiddleRowsTypical : kRowsTypical, inputs, weight_stride, problem);
  if (in_one_call(p)) describe_batch(p, inputs, problem);
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), "a preference");
  check(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                                             sizeof kWorkspaceBytes),
        "a preference");
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle_, &problem.operation, &problem.weight, &problem.x, &problem.out,
                                       &problem.out, &preference, 1, &result, &count),
        "the choice of an algorithm");
  HYLAS_CHECK(count == 1, "cuBLASLt has no algorithm for {} outputs of {} inputs", p.outputs, inputs);
  found = std::make_unique<Algorithm>(Algorithm{result.algo});
  return *found;
}

void LargeGemm::run(const Product& p, Workspace& workspace, Stream stream) {
  const void* weight = p.weight.data;
  int64_t stride = p.weight.stride;
  if (p.weight_dtype == DType::kF8E4M3) {
    auto* copy = workspace.take<uint16_t>(p.outputs * p.inputs);
    dequantize(p.weight, p.outputs, p.inputs, copy, stream);
    weight = copy;
    stride = p.inputs;
  }
  auto* scratch = workspace.take<std::byte>(kWorkspaceBytes);
  const float one = 1.f, zero = 0.f;
  for (int s = 0; s < (in_one_call(p) ? 1 : p.slices); ++s) {
    const int64_t begin = p.slice_begin[s], inputs = p.slice_begin[s + 1] - begin;
    Problem problem;
    describe(p, p.rows, inputs, stride, problem);
    if (in_one_call(p)) describe_batch(p, inputs, problem);
    auto* out = static_cast<std::byte*>(p.out.data) + s * p.slice_stride * dtype_bytes(p.out.dtype);
    check(
        cublasLtMatmul(handle_, &problem.operation, &one, static_cast<const uint16_t*>(weight) + begin, &problem.weight,
                       static_cast<const uint16_t*>(p.x.data) + begin, &problem.x, &zero, out, &problem.out, out,
                       &problem.out, &algorithm(p, inputs, stride).value, scratch, kWorkspaceBytes, stream),
        "linear");
  }
}

}  // namespace hylas::cuda
