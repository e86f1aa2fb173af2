#include "ops/cpu/gemm_kernels.h"
#include "ops/cpu/simd_scalar.h"

namespace hylas::cpu {
extern const GemmKernels kGemmScalar;
const GemmKernels kGemmScalar = Gemm<Scalar>::kTable;
}  // namespace hylas::cpu
