#if defined(__x86_64__)
#include "ops/cpu/gemm_row_avx2.h"
#include "ops/cpu/gemm_tile_avx2.h"

#include "ops/cpu/gemm_kernels.h"

namespace hylas::cpu {
extern const GemmKernels kGemmAvx2;
const GemmKernels kGemmAvx2 = Gemm<Avx2>::kTable;
}  // namespace hylas::cpu
#endif
