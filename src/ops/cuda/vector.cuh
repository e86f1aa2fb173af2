#pragma once
// Several neighbouring elements at a time: one access of up to 16 bytes.
#include "ops/cuda/element.cuh"
#include "ops/cuda/views.h"

namespace hylas::cuda {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

template <int N, class T>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
  constexpr int kPiece = sizeof(T) * N > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
#pragma unroll
  for (int i = 0; i < N; i += kPiece) {
    const auto pack = *reinterpret_cast<const Pack<T, kPiece>*>(from + i);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) to[i + j] = to_f32(pack.value[j]);
  }
}

template <int N, class T>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
  constexpr int kPiece = sizeof(T) * N > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
#pragma unroll
  for (int i = 0; i < N; i += kPiece) {
    Pack<T, kPiece> pack;
#pragma unroll
    for (int j = 0; j < kPiece; ++j) pack.value[j] = from_f32<T>(from[i + j]);
    *reinterpret_cast<Pack<T, kPiece>*>(to + i) = pack;
  }
}

constexpr int kVector = 8;  // elements that a thread takes at once where everything is aligned

// Whether rows of `view` can be read kVector elements at a time.
inline bool aligned(const View& view) {
  const int64_t bytes = view.stride * dtype_bytes(view.dtype);
  const int64_t unit = dtype_bytes(view.dtype) * kVector < 16 ? dtype_bytes(view.dtype) * kVector : 16;
  return reinterpret_cast<uintptr_t>(view.data) % unit == 0 && bytes % unit == 0;
}

// body(std::integral_constant<int, N>) with N = kVector if all rows allow it, else 1.
template <int N>
struct Width {
  static constexpr int value = N;
};
template <class Body>
void with_width(bool wide, Body&& body) {
  if (wide) {
    body(Width<kVector>{});
  } else {
    body(Width<1>{});
  }
}

}  // namespace hylas::cuda
