#pragma once
// Causal depthwise convolution of width 4, then silu (model.md section 3.2). Included by other_kernels_<isa>.cc.
#include "ops/cpu/storage.h"

namespace hylas::cpu {

constexpr int kConvHistory = 3;  // inputs before a token that its output reads

// Outputs of one token from its inputs, oldest first; the sources may be of two types.
template <class V, class Load, class T>
HYLAS_INLINE void conv_token(const float* taps, int64_t channels, Load load_input, T* out) {
  using F = typename V::F;
  for_vectors<V>(channels, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
    F sum = V::zero();
    for (int64_t j = 0; j <= kConvHistory; ++j) {
      sum = V::fma(V::load(taps + j * kConvChannels + i), load_input(j, i, n), sum);
    }
    store<V>(out + i, silu<V>(sum), n);
  });
}

// A block of channels of one row. `taps` [4][kConvChannels] and `history` [3][kConvChannels] are position-major.
template <class V, class T>
HYLAS_INLINE void conv_block(const ConvArgs& args, const float* taps, const float* history, int64_t row_begin,
                             int64_t row_end, int64_t channel, int64_t channels) {
  int64_t t = row_begin;
  for (; t < row_end && t < row_begin + kConvHistory; ++t) {
    auto load_input = [&](int64_t j, int64_t i, auto n) HYLAS_INLINE_LAMBDA {
      int64_t source = t - kConvHistory + j;
      if (source >= row_begin) return load<V>(row<T>(args.u, source) + channel + i, n);
      return V::load(history + (source - row_begin + kConvHistory) * kConvChannels + i);
    };
    conv_token<V>(taps, channels, load_input, row<T>(args.out, t) + channel);
  }
  for (; t < row_end; ++t) {
    const T* u = row<T>(args.u, t - kConvHistory) + channel;
    for (int64_t i = 0; i < channels * static_cast<int64_t>(sizeof(T));
         i += 64) {  // the next but one token's: a page away
      __builtin_prefetch(reinterpret_cast<const char*>(u + (kConvHistory + 2) * args.u.stride) + i);
    }
    auto load_input = [&](int64_t j, int64_t i, auto n)
                          HYLAS_INLINE_LAMBDA { return load<V>(u + j * args.u.stride + i, n); };
    conv_token<V>(taps, channels, load_input, row<T>(args.out, t) + channel);
  }
}

// The last three inputs, old state included, oldest first. `from` may be null (a fresh sequence) or equal to `to`.
template <class T>
HYLAS_INLINE void save_history(const ConvArgs& args, int64_t row_begin, int64_t row_end, int64_t channel,
                               int64_t channels, const T* from, T* to) {
  int64_t tokens = row_end - row_begin;
  for (int64_t c = 0; c < channels; ++c) {
    T kept[kConvHistory];
    for (int64_t j = 0; j < kConvHistory; ++j) {
      int64_t source = tokens - kConvHistory + j;
      if (source >= 0) {
        kept[j] = row<T>(args.u, row_begin + source)[channel + c];
      } else {
        kept[j] = from ? from[c * kConvHistory + tokens + j] : T{};
      }
    }
    for (int64_t j = 0; j < kConvHistory; ++j) to[c * kConvHistory + j] = kept[j];
  }
}

template <class V, class T, class W>
void conv_rows(const ConvArgs& args, int64_t begin, int64_t end) {
  alignas(64) float taps[(kConvHistory + 1) * kConvChannels] = {};
  alignas(64) float history[kConvHistory * kConvChannels] = {};
  alignas(64) float wide[kConvHistory * kConvChannels] = {};
  int64_t channels = end - begin;
  float packed[(kConvHistory + 1) * kConvChannels];
  widen<V>(static_cast<const W*>(args.weight) + begin * (kConvHistory + 1), channels * (kConvHistory + 1), packed);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j <= kConvHistory; ++j) taps[j * kConvChannels + c] = packed[c * (kConvHistory + 1) + j];
  }
  for (int r = 0; r < args.rows; ++r) {
    if (args.state_write[r] < 0) continue;
    const T* from = args.state_read[r] < 0 ? nullptr : row<T>(args.pool, args.state_read[r]) + begin * kConvHistory;
    if (from) {
      widen<V>(from, channels * kConvHistory, wide);
    } else {
      for (float& value : wide) value = 0.f;
    }
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t j = 0; j < kConvHistory; ++j) history[j * kConvChannels + c] = wide[c * kConvHistory + j];
    }
    conv_block<V, T>(args, taps, history, args.row_begin[r], args.row_begin[r + 1], begin, channels);
    save_history<T>(args, args.row_begin[r], args.row_begin[r + 1], begin, channels, from,
                    row<T>(args.pool, args.state_write[r]) + begin * kConvHistory);
  }
}

template <class V>
void conv_silu_kernel(const ConvArgs& args, int64_t begin, int64_t end) {
  with_f32_bf16(args.u.dtype, [&](auto* act) {
    with_f32_bf16(args.weight_dtype, [&](auto* weight) {
      conv_rows<V, Pointee<decltype(act)>, Pointee<decltype(weight)>>(args, begin, end);
    });
  });
}

}  // namespace hylas::cpu
