#include "ops/cpu/other_kernel_table.h"
#include "ops/cpu/simd_scalar.h"

namespace hylas::cpu {
const OtherKernels& other_kernels_scalar() { return kOtherKernels<Scalar>; }
}  // namespace hylas::cpu
