#if defined(__AVX2__)
#include "ops/cpu/other_kernel_table.h"
#include "ops/cpu/simd_avx2.h"

namespace hylas::cpu {
const OtherKernels& other_kernels_avx2() { return kOtherKernels<Avx2>; }
}  // namespace hylas::cpu
#endif
