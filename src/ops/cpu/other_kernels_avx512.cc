#if defined(__AVX512F__)
#include "ops/cpu/other_kernel_table.h"
#include "ops/cpu/simd_avx512.h"

namespace hylas::cpu {
const OtherKernels& other_kernels_avx512() { return kOtherKernels<Avx512>; }
}  // namespace hylas::cpu
#endif
