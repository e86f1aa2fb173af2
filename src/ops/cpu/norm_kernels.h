#pragma once
// RMS norms (model.md section 3) and the gate product. Included by other_kernels_<isa>.cc.
#include "ops/cpu/storage.h"

namespace hylas::cpu {

// Sum of squares in four vectors of partial sums: the order depends on the count alone.
template <class V, class T>
HYLAS_INLINE float sum_squares(const T* x, int64_t count) {
  using F = typename V::F;
  F sums[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  int64_t i = 0;
  for (; i + 4 * V::kLanes <= count; i += 4 * V::kLanes) {
    for (int j = 0; j < 4; ++j) {
      F value = load<V>(x + i + j * V::kLanes);
      sums[j] = V::fma(value, value, sums[j]);
    }
  }
  for_vectors<V>(count - i, [&](int64_t j, auto n) HYLAS_INLINE_LAMBDA {
    F value = load<V>(x + i + j, n);
    sums[0] = V::fma(value, value, sums[0]);
  });
  return V::sum(V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
}

template <class V, class T>
HYLAS_INLINE float inverse_rms(const T* x, int64_t width, float eps) {
  return 1.f / __builtin_sqrtf(sum_squares<V>(x, width) / static_cast<float>(width) + eps);
}

// out = x rsqrt(mean(x^2) + eps) (1 + w)
template <class V, class T, class W, class O>
HYLAS_INLINE void norm_row(const T* x, const W* weight, int64_t width, float eps, O* out) {
  using F = typename V::F;
  F scale = V::set(inverse_rms<V>(x, width, eps)), one = V::set(1.f);
  for_vectors<V>(width, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    F factor = V::add(one, load<V>(weight + i, n));
    store<V>(out + i, V::mul(V::mul(load<V>(x + i, n), scale), factor), n);
  });
}

template <class V>
void rms_norm_kernel(const NormArgs& args, int64_t begin, int64_t end) {
  with_f32_bf16(args.x.dtype, [&](auto* act) {
    with_f32_bf16(args.weight_dtype, [&](auto* weight) {
      using T = Pointee<decltype(act)>;
      using W = Pointee<decltype(weight)>;
      for (int64_t t = begin; t < end; ++t) {
        norm_row<V>(row<T>(args.x, t), static_cast<const W*>(args.weight), args.width, args.eps, row<T>(args.out, t));
      }
    });
  });
}

// residual += ((p0 + p1) + (p2 + p3)); the norm reads what was stored, so that a stage that begins with the residual
// alone sees the same numbers.
template <class V, class T>
HYLAS_INLINE void add_partials(const NormArgs& args, int64_t t) {
  using F = typename V::F;
  T* residual = row<T>(args.x, t);
  const float* p[4];
  for (int s = 0; s < args.slices; ++s) p[s] = args.partials[s] + t * args.partial_stride;
  for_vectors<V>(args.width, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    F sum = load<V>(p[0] + i, n);
    if (args.slices >= 2) sum = V::add(sum, load<V>(p[1] + i, n));
    if (args.slices == 4) sum = V::add(sum, V::add(load<V>(p[2] + i, n), load<V>(p[3] + i, n)));
    store<V>(residual + i, V::add(load<V>(residual + i, n), sum), n);
  });
}

template <class V>
void add_rms_norm_kernel(const NormArgs& args, int64_t begin, int64_t end) {
  with_f32_bf16(args.x.dtype, [&](auto* act) {
    using T = Pointee<decltype(act)>;
    for (int64_t t = begin; t < end; ++t) add_partials<V, T>(args, t);
  });
  if (args.out.data) rms_norm_kernel<V>(args, begin, end);
}

// out = w x rsqrt(mean(x^2) + eps) silu(z)
template <class V, class T, class W>
HYLAS_INLINE void gated_norm_row(const T* x, const T* z, const W* weight, int64_t width, float eps, T* out) {
  using F = typename V::F;
  F scale = V::set(inverse_rms<V>(x, width, eps));
  for_vectors<V>(width, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    F normed = V::mul(load<V>(weight + i, n), V::mul(load<V>(x + i, n), scale));
    store<V>(out + i, V::mul(normed, silu<V>(load<V>(z + i, n))), n);
  });
}

template <class V>
void gated_rms_norm_kernel(const NormArgs& args, int64_t begin, int64_t end) {
  with_f32_bf16(args.x.dtype, [&](auto* act) {
    with_f32_bf16(args.weight_dtype, [&](auto* weight) {
      using T = Pointee<decltype(act)>;
      using W = Pointee<decltype(weight)>;
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t column = 0; column < args.heads * args.width; column += args.width) {
          gated_norm_row<V>(row<T>(args.x, t) + column, row<T>(args.z, t) + column, static_cast<const W*>(args.weight),
                            args.width, args.eps, row<T>(args.out, t) + column);
        }
      }
    });
  });
}

template <class V>
void silu_mul_kernel(const SiluMulArgs& args, int64_t begin, int64_t end, int64_t column_begin, int64_t column_end) {
  with_f32_bf16(args.gate.dtype, [&](auto* act) {
    using T = Pointee<decltype(act)>;
    for (int64_t t = begin; t < end; ++t) {
      const T* gate = row<T>(args.gate, t) + column_begin;
      const T* up = row<T>(args.up, t) + column_begin;
      T* out = row<T>(args.out, t) + column_begin;
      for_vectors<V>(column_end - column_begin, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
        store<V>(out + i, V::mul(silu<V>(load<V>(gate + i, n)), load<V>(up + i, n)), n);
      });
    }
  });
}

}  // namespace hylas::cpu
