#pragma once
// Gated delta rule (model.md section 3.2), recurrent form for one token; the chunked form is in
// delta_rule_chunk_kernels.h. Included by other_kernels_<isa>.cc.
#include <cmath>

#include "ops/cpu/tile_kernels.h"

namespace hylas::cpu {

template <class Body>
HYLAS_INLINE void with_state_type(DType dtype, Body&& body) {
  if (dtype == DType::kF16) {
    body(static_cast<F16*>(nullptr));
  } else {
    with_f32_bf16(dtype, body);
  }
}

HYLAS_INLINE float element(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[index];
  union {
    uint32_t bits;
    float value;
  } wide = {static_cast<uint32_t>(static_cast<const uint16_t*>(data)[index]) << 16};
  return wide.value;
}
HYLAS_INLINE float element(const Rows& rows, int64_t t, int64_t index) {
  return element(rows.data, rows.dtype, t * rows.stride + index);
}

// g = -exp(a_log) softplus(a + dt_bias), the logarithm of the decay; <= 0.
HYLAS_INLINE float log_decay(const DeltaArgs& args, int64_t t, int64_t head) {
  float x = element(args.a, t, head) + element(args.dt_bias, args.dt_bias_dtype, head);
  float softplus = x > 20.f ? x : ::log1pf(::expf(x));
  return -::expf(element(args.a_log, args.a_log_dtype, head)) * softplus;
}

HYLAS_INLINE float write_strength(const DeltaArgs& args, int64_t t, int64_t head) {
  return 1.f / (1.f + ::expf(-element(args.b, t, head)));
}

// out = x / sqrt(sum x^2 + 1e-6) * factor over `dim` values, zero up to `padded`.
template <class V, class T>
HYLAS_INLINE void normalised(const T* x, int64_t dim, int64_t padded, float factor, float* out) {
  using F = typename V::F;
  F sum = V::zero();
  for_vectors<V>(dim, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    F value = load<V>(x + i, n);
    sum = V::fma(value, value, sum);
    V::store(out + i, value);
  });
  scale<V>(out, padded, factor / __builtin_sqrtf(V::sum(sum) + 1e-6f));
}

// Vectors of a state row that are updated together: their sums stay in registers.
constexpr int kDecodeVectors = 8;

// Columns [0, kDecodeVectors * kLanes) of a state, or fewer. The state is read twice, the second time from the cache.
template <class V, class S, int kVectors, class N>
HYLAS_INLINE void decode_columns(const S* from, S* to, int64_t stride, int64_t key_dim, const float* key,
                                 const float* query, float decay, float beta, const float* value, float* out, N n) {
  using F = typename V::F;
  F delta[kVectors], sum[kVectors];
  for (int c = 0; c < kVectors; ++c) delta[c] = sum[c] = V::zero();
  for (int64_t i = 0; from && i < key_dim; ++i) {
    F k = V::set(key[i]);
    for (int c = 0; c < kVectors; ++c) {
      delta[c] = V::fma(k, load<V>(from + i * stride + c * V::kLanes, n), delta[c]);
    }
  }
  F keep = V::set(decay);
  for (int c = 0; c < kVectors; ++c) {
    delta[c] = V::mul(V::set(beta), V::sub(load<V>(value + c * V::kLanes, n), V::mul(keep, delta[c])));
  }
  for (int64_t i = 0; i < key_dim; ++i) {
    F k = V::set(key[i]), q = V::set(query[i]);
    for (int c = 0; c < kVectors; ++c) {
      F old = from ? V::mul(keep, load<V>(from + i * stride + c * V::kLanes, n)) : V::zero();
      F updated = V::fma(k, delta[c], old);
      store<V>(to + i * stride + c * V::kLanes, updated, n);
      sum[c] = V::fma(q, updated, sum[c]);
    }
  }
  for (int c = 0; c < kVectors; ++c) store<V>(out + c * V::kLanes, sum[c], n);
}

// The normalised query and key of token t under the item's head, and its value as floats.
struct DeltaToken {
  float *query, *key, *value;
};
template <class V, class T>
HYLAS_INLINE void read_token(const DeltaArgs& args, int64_t head, int64_t t, const DeltaToken& token) {
  int64_t key_head = head / (args.value_heads / args.key_heads);
  int64_t padded = round_up(args.key_dim, V::kLanes);
  const T* qkv = row<T>(args.qkv, t);
  const T* key = qkv + (args.key_heads + key_head) * args.key_dim;
  float query_scale = 1.f / __builtin_sqrtf(static_cast<float>(args.key_dim));
  normalised<V>(qkv + key_head * args.key_dim, args.key_dim, padded, query_scale, token.query);
  normalised<V>(key, args.key_dim, padded, 1.f, token.key);
  widen<V>(qkv + 2 * args.key_heads * args.key_dim + head * args.value_dim, args.value_dim, token.value);
}

template <class V, class T, class S>
void delta_decode_item(const DeltaArgs& args, const DeltaItem& item, float* memory) {
  int64_t key_padded = round_up(args.key_dim, V::kLanes), value_padded = round_up(args.value_dim, V::kLanes);
  DeltaToken token = {memory, memory + key_padded, memory + 2 * key_padded};
  float* out = token.value + value_padded;
  int64_t t = item.token_begin, dim = args.value_dim, head_offset = item.head * args.key_dim * dim;
  read_token<V, T>(args, item.head, t, token);
  const S* from = item.state_read < 0 ? nullptr : row<S>(args.pool, item.state_read) + head_offset;
  S* to = row<S>(args.pool, item.state_write) + head_offset;
  float decay = ::expf(log_decay(args, t, item.head)), beta = write_strength(args, t, item.head);
  int64_t column = 0;
  constexpr int64_t kWide = kDecodeVectors * V::kLanes;
  for (; column + kWide <= dim; column += kWide) {
    decode_columns<V, S, kDecodeVectors>(from ? from + column : nullptr, to + column, dim, args.key_dim, token.key,
                                         token.query, decay, beta, token.value + column, out + column, All{});
  }
  for_vectors<V>(dim - column, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    int64_t c = column + i;
    decode_columns<V, S, 1>(from ? from + c : nullptr, to + c, dim, args.key_dim, token.key, token.query, decay, beta,
                            token.value + c, out + c, n);
  });
  narrow<V>(out, dim, row<T>(args.out, t) + item.head * dim);
}

template <class V>
void delta_decode_kernel(const DeltaArgs& args, const DeltaItem& item, float* scratch) {
  with_f32_bf16(args.qkv.dtype, [&](auto* act) {
    with_state_type(args.pool.dtype, [&](auto* state) {
      delta_decode_item<V, Pointee<decltype(act)>, Pointee<decltype(state)>>(args, item, scratch);
    });
  });
}

}  // namespace hylas::cpu
