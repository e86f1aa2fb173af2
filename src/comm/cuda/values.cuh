#pragma once
// Values of rows and of partial sums, f32 or bf16 as they lie in memory, as sums take them.
#include "tensor/cuda/f32_bf16.cuh"

namespace hylas::cuda {

// N neighbours, in accesses of up to 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Values {
  T value[N];
};

}  // namespace hylas::cuda
