#pragma once
// Gated delta rule, chunked form (model.md section 3.2) over tiles of 64 positions at absolute multiples of 64. With G
// the running sum of log decays within a tile, S the state before it and every row i:
//   X_i = beta_i (v_i - e^{G_i} S^T k_i) - sum over j < i of beta_i e^{G_i - G_j} (k_i . k_j) X_j     what row i writes
//   o_i = e^{G_i} S^T q_i + sum over j <= i of e^{G_i - G_j} (q_i . k_j) X_j
//   S  <- e^{G_n} S + sum over j of e^{G_n - G_j} k_j X_j^T
// Value columns are independent of each other, so all of it is done one panel of columns at a time.
// Included by other_kernels_<isa>.cc.
#include "ops/cpu/delta_rule_kernels.h"

namespace hylas::cpu {

struct DeltaScratch {
  int64_t key_padded;    // key_dim in whole vectors; what is added is zero
  int64_t value_padded;  // value_dim in whole panels
  float* state;          // [panels][key_dim + 1][kPanel]: one row more, lest all panels fall on the same cache sets
  float *query, *key;    // [kTile][key_padded]
  float* value;          // [kTile][value_padded]
  float* out;            // [kTile][value_padded]
  float* overwrite;      // [kTile][kTile]: -beta_i e^{G_i - G_j} (k_i . k_j), 0 unless j < i
  float* read;           // [kTile][kTile]: e^{G_i - G_j} (q_i . k_j), 0 unless j <= i
  float* written;        // [kTile][kPanel]: X
  float* carried;        // [kTile][kPanel]: e^{G_n - G_j} X_j
  float* beta;           // [kTile]
  float* from_start;     // [kTile]: e^{G_i}
  float* to_end;         // [kTile]: e^{G_n - G_i}
};

template <class V>
HYLAS_INLINE DeltaScratch delta_scratch(const DeltaArgs& args, float* memory) {
  DeltaScratch s;
  s.key_padded = round_up(args.key_dim, V::kLanes);
  s.value_padded = round_up(args.value_dim, kPanel<V>);
  auto take = [&](int64_t count) {
    float* piece = memory;
    memory += count;
    return piece;
  };
  s.state = take((args.key_dim + 1) * s.value_padded);
  s.query = take(kTile * s.key_padded);
  s.key = take(kTile * s.key_padded);
  s.value = take(kTile * s.value_padded);
  s.out = take(kTile * s.value_padded);
  s.overwrite = take(kTile * kTile);
  s.read = take(kTile * kTile);
  s.written = take(kTile * kPanel<V>);
  s.carried = take(kTile * kPanel<V>);
  s.beta = take(kTile);
  s.from_start = take(kTile);
  s.to_end = take(kTile);
  return s;
}

template <class V>
int64_t delta_floats_kernel(const DeltaArgs& args) {
  int64_t key_padded = round_up(args.key_dim, V::kLanes), value_padded = round_up(args.value_dim, kPanel<V>);
  return (args.key_dim + 1) * value_padded + 2 * kTile * (key_padded + value_padded) + 2 * kTile * kTile +
         2 * kTile * kPanel<V> + 3 * kTile;
}

// body(element offset in the state, float offset in the scratch panels, n) for every vector of a state.
template <class V, class Body>
HYLAS_INLINE void for_state(const DeltaArgs& args, Body&& body) {
  for (int64_t i = 0; i < args.key_dim; ++i) {
    for_vectors<V>(args.value_dim, [&](int64_t c, auto n) HYLAS_INLINE_LAMBDA {
      int64_t panel = c / kPanel<V>;
      body(i * args.value_dim + c, (panel * (args.key_dim + 1) + i) * kPanel<V> + c % kPanel<V>, n);
    });
  }
}

template <class V, class S>
HYLAS_INLINE void load_state(const DeltaArgs& args, const S* from, const DeltaScratch& s) {
  clear<V>(s.state, (args.key_dim + 1) * s.value_padded);
  if (!from) return;
  for_state<V>(args, [&](int64_t source, int64_t to, auto n)
                         HYLAS_INLINE_LAMBDA { V::store(s.state + to, load<V>(from + source, n)); });
}

// Stores the state, and goes on with what was stored: a 16-bit state is rounded here.
template <class V, class S>
HYLAS_INLINE void store_state(const DeltaArgs& args, const DeltaScratch& s, S* to) {
  for_state<V>(args, [&](int64_t target, int64_t from, auto n) HYLAS_INLINE_LAMBDA {
    store<V>(to + target, V::load(s.state + from), n);
    V::store(s.state + from, load<V>(to + target, n));
  });
}

// Gates of tokens [begin, begin + count). Sums and differences of log decays are taken in double: they may be large.
HYLAS_INLINE void read_gates(const DeltaArgs& args, int64_t head, int64_t begin, int64_t count, const DeltaScratch& s,
                             double* decay_sum) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += log_decay(args, begin + i, head);
    decay_sum[i] = sum;
    s.beta[i] = write_strength(args, begin + i, head);
  }
  for (int64_t i = 0; i < count; ++i) {
    s.from_start[i] = ::expf(static_cast<float>(decay_sum[i]));
    s.to_end[i] = ::expf(static_cast<float>(sum - decay_sum[i]));
  }
}

// Row i of `products` [kTile] becomes factor e^{G_i - G_j} products[j] for j < columns and 0 behind.
template <class V>
HYLAS_INLINE void weigh(const double* decay_sum, int64_t i, int64_t columns, float factor, float* products) {
  using F = typename V::F;
  float decay[kTile];
  for (int64_t j = 0; j < columns; ++j) decay[j] = static_cast<float>(decay_sum[i] - decay_sum[j]);
  for (int64_t j = columns; j < kTile; ++j) decay[j] = products[j] = 0.f;
  for (int64_t j = 0; j < round_up(columns, V::kLanes); j += V::kLanes) {
    F weight = V::mul(V::set(factor), exp<V>(V::load(decay + j)));
    V::store(products + j, V::mul(weight, V::load(products + j)));
  }
}

// Reads a tile of `count` tokens and fills everything of the scratch that no column of values is needed for. Rows up to
// a whole block of four are zero.
template <class V, class T>
HYLAS_INLINE void prepare_tile(const DeltaArgs& args, int64_t head, int64_t begin, int64_t count,
                               const DeltaScratch& s) {
  double decay_sum[kTile];
  read_gates(args, head, begin, count, s, decay_sum);
  for (int64_t i = 0; i < count; ++i) {
    read_token<V, T>(args, head, begin + i,
                     {s.query + i * s.key_padded, s.key + i * s.key_padded, s.value + i * s.value_padded});
  }
  int64_t rows = round_up(count, 4);
  for (int64_t i = count; i < rows; ++i) {
    clear<V>(s.query + i * s.key_padded, s.key_padded);
    clear<V>(s.key + i * s.key_padded, s.key_padded);
    clear<V>(s.value + i * s.value_padded, s.value_padded);
    s.beta[i] = s.from_start[i] = s.to_end[i] = 0.f;
    decay_sum[i] = decay_sum[count - 1];
  }
  for (int64_t i = 0; i < rows; i += 4) {
    dots<V>(s.key + i * s.key_padded, s.key_padded, 4, s.key, s.key_padded, i + 4, s.key_padded,
            s.overwrite + i * kTile, kTile);
    dots<V>(s.query + i * s.key_padded, s.key_padded, 4, s.key, s.key_padded, i + 4, s.key_padded, s.read + i * kTile,
            kTile);
  }
  for (int64_t i = 0; i < rows; ++i) {
    weigh<V>(decay_sum, i, i, -s.beta[i], s.overwrite + i * kTile);
    weigh<V>(decay_sum, i, i + 1, 1.f, s.read + i * kTile);
  }
}

// X of one panel: the right-hand side, then forward substitution in blocks of four rows.
template <class V>
HYLAS_INLINE void solve_panel(const DeltaScratch& s, const float* state, int64_t column, int64_t rows,
                              int64_t key_dim) {
  using F = typename V::F;
  constexpr int64_t kWidth = kPanel<V>;
  clear<V>(s.written, rows * kWidth);
  panel_product<V>(s.key, Strides{s.key_padded, 1}, rows, state, key_dim, s.written, kWidth);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < kWidth; c += V::kLanes) {
      F old = V::mul(V::set(s.from_start[i]), V::load(s.written + i * kWidth + c));
      F value = V::load(s.value + i * s.value_padded + column + c);
      V::store(s.written + i * kWidth + c, V::mul(V::set(s.beta[i]), V::sub(value, old)));
    }
  }
  for (int64_t i = 0; i < rows; i += 4) {
    const float* factors = s.overwrite + i * kTile;
    panel_product<V>(factors, Strides{kTile, 1}, 4, s.written, i, s.written + i * kWidth, kWidth);
    for (int64_t r = 1; r < 4; ++r) {
      panel_product<V>(factors + r * kTile + i, Strides{kTile, 1}, 1, s.written + i * kWidth, r,
                       s.written + (i + r) * kWidth, kWidth);
    }
  }
}

// Outputs and the state after the tile, for the panel whose X stands in s.written.
template <class V>
HYLAS_INLINE void finish_panel(const DeltaScratch& s, float* state, int64_t column, int64_t count, int64_t rows,
                               int64_t key_dim) {
  using F = typename V::F;
  constexpr int64_t kWidth = kPanel<V>;
  for (int64_t i = 0; i < rows; i += 4) {
    float* out = s.out + i * s.value_padded + column;
    for (int64_t r = 0; r < 4; ++r) clear<V>(out + r * s.value_padded, kWidth);
    panel_product<V>(s.query + i * s.key_padded, Strides{s.key_padded, 1}, 4, state, key_dim, out, s.value_padded);
    for (int64_t r = 0; r < 4; ++r) scale<V>(out + r * s.value_padded, kWidth, s.from_start[i + r]);
    panel_product<V>(s.read + i * kTile, Strides{kTile, 1}, 4, s.written, i + 4, out, s.value_padded);
  }
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t c = 0; c < kWidth; c += V::kLanes) {
      F written = V::load(s.written + j * kWidth + c);
      V::store(s.carried + j * kWidth + c, V::mul(V::set(s.to_end[j]), written));
    }
  }
  scale<V>(state, key_dim * kWidth, s.from_start[count - 1]);
  panel_product<V>(s.key, Strides{1, s.key_padded}, key_dim, s.carried, count, state, kWidth);
}

template <class V, class T, class S>
void delta_prefill_item(const DeltaArgs& args, const DeltaItem& item, float* memory) {
  DeltaScratch s = delta_scratch<V>(args, memory);
  int64_t head_offset = static_cast<int64_t>(item.head) * args.key_dim * args.value_dim;
  load_state<V, S>(args, item.state_read < 0 ? nullptr : row<S>(args.pool, item.state_read) + head_offset, s);
  clear<V>(s.value, kTile * s.value_padded);
  int64_t position = item.position;
  for (int64_t begin = item.token_begin; begin < item.token_end;) {
    int64_t left = item.token_end - begin, count = kTile - position % kTile;
    if (count > left) count = left;
    prepare_tile<V, T>(args, item.head, begin, count, s);
    int64_t rows = round_up(count, 4);
    for (int64_t column = 0; column < s.value_padded; column += kPanel<V>) {
      float* state = s.state + column * (args.key_dim + 1);
      solve_panel<V>(s, state, column, rows, args.key_dim);
      finish_panel<V>(s, state, column, count, rows, args.key_dim);
    }
    for (int64_t i = 0; i < count; ++i) {
      narrow<V>(s.out + i * s.value_padded, args.value_dim, row<T>(args.out, begin + i) + item.head * args.value_dim);
    }
    store_state<V, S>(args, s, row<S>(args.pool, item.state_write) + head_offset);
    begin += count;
    position += count;
  }
}

template <class V>
void delta_prefill_kernel(const DeltaArgs& args, const DeltaItem& item, float* scratch) {
  with_f32_bf16(args.qkv.dtype, [&](auto* act) {
    with_state_type(args.pool.dtype, [&](auto* state) {
      delta_prefill_item<V, Pointee<decltype(act)>, Pointee<decltype(state)>>(args, item, scratch);
    });
  });
}

}  // namespace hylas::cpu
