#if defined(__x86_64__)
#include "ops/cpu/gemm_kernels.h"
#include "ops/cpu/simd_avx512.h"

namespace hylas::cpu {
extern const GemmKernels kGemmAvx512;
const GemmKernels kGemmAvx512 = Gemm<Avx512>::kTable;
}  // namespace hylas::cpu
#endif
