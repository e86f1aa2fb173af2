#include "ops/cpu/other_kernels.h"

#include "ops/cpu/scratch.h"

namespace hylas::cpu {

const OtherKernels& other_kernels_scalar();
const OtherKernels& other_kernels_avx2();
const OtherKernels& other_kernels_avx512();

const OtherKernels& other_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return other_kernels_avx512();
    case Isa::kAvx2:
      return other_kernels_avx2();
#endif
    default:
      return other_kernels_scalar();
  }
}

}  // namespace hylas::cpu
