#pragma once
// Norm and rotary embedding of q and k, k and v to their pages. Included by other_kernels_<isa>.cc.
#include "ops/cpu/norm_kernels.h"

namespace hylas::cpu {

// Pairs (i, i + n / 2) of the first n = rotary_dim values, in place; table: cos | sin of n / 2 angles.
template <class V>
HYLAS_INLINE void rotate_half(float* x, const float* table, int64_t rotary_dim) {
  using F = typename V::F;
  int64_t half = rotary_dim / 2;
  for_vectors<V>(half, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    F a = load<V>(x + i, n), b = load<V>(x + half + i, n);
    F cosine = load<V>(table + i, n), sine = load<V>(table + half + i, n);
    store<V>(x + i, V::sub(V::mul(a, cosine), V::mul(b, sine)), n);
    store<V>(x + half + i, V::add(V::mul(b, cosine), V::mul(a, sine)), n);
  });
}

template <class Body>
HYLAS_INLINE void with_kv_type(DType dtype, Body&& body) {
  if (dtype == DType::kF8E4M3) {
    body(static_cast<F8*>(nullptr));
  } else {
    with_f32_bf16(dtype, body);
  }
}

template <class V, class T, class W, class K>
void qk_norm_rope_token(const QkNormRopeArgs& args, int64_t t) {
  float head[kHeadDimMax];
  const float* table = row<float>(args.rope, t);
  int64_t dim = args.head_dim;
  for (int64_t h = 0; h < args.heads; ++h) {
    norm_row<V>(row<T>(args.qg, t) + 2 * h * dim, static_cast<const W*>(args.q_norm), dim, args.eps, head);
    rotate_half<V>(head, table, args.rotary_dim);
    narrow<V>(head, dim, row<T>(args.q_out, t) + h * dim);
  }
  for (int64_t h = 0; h < args.kv_heads; ++h) {
    int64_t offset = args.offsets[t] + h * args.kv_head_stride;
    norm_row<V>(row<T>(args.k, t) + h * dim, static_cast<const W*>(args.k_norm), dim, args.eps, head);
    rotate_half<V>(head, table, args.rotary_dim);
    narrow<V>(head, dim, static_cast<K*>(args.k_pages) + offset);
    widen<V>(row<T>(args.v, t) + h * dim, dim, head);
    narrow<V>(head, dim, static_cast<K*>(args.v_pages) + offset);
  }
}

template <class V>
void qk_norm_rope_kernel(const QkNormRopeArgs& args, int64_t begin, int64_t end) {
  with_f32_bf16(args.qg.dtype, [&](auto* act) {
    with_f32_bf16(args.norm_dtype, [&](auto* weight) {
      with_kv_type(args.kv_dtype, [&](auto* kv) {
        for (int64_t t = begin; t < end; ++t) {
          if (args.offsets[t] < 0) continue;
          qk_norm_rope_token<V, Pointee<decltype(act)>, Pointee<decltype(weight)>, Pointee<decltype(kv)>>(args, t);
        }
      });
    });
  });
}

}  // namespace hylas::cpu
