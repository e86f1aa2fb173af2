#pragma once
// Causal attention over paged keys and values (model.md section 3.1). Online softmax over blocks of 64 positions at
// absolute multiples of 64, ascending: a query's arithmetic is the same whether its token is decoded alone or prefilled
// among others. Included by other_kernels_<isa>.cc.
#include "ops/cpu/rope_kernels.h"
#include "ops/cpu/tile_kernels.h"

namespace hylas::cpu {

constexpr int64_t kKeysAtOnce =
    16;  // converted together: they stay in the first-level cache while all queries use them

// The item's scratch; rows are (token, head of the group), head fastest.
struct AttentionScratch {
  int64_t padded_dim;  // head_dim in whole panels; what is added is zero
  float* query;        // [rows][padded_dim], scaled
  float* sum;          // [rows][padded_dim]: of weight * value
  float* weight;       // [rows][kTile]: scores, then their exponentials
  float* highest;      // [rows]
  float* total;        // [rows]: of the exponentials
  float* keys;         // [kKeysAtOnce][padded_dim]
  float* values;       // [panels][kTile][kPanel]
};

template <class V>
int64_t attention_floats_kernel(const AttentionArgs& args, int64_t tokens) {
  int64_t rows = tokens * (args.heads / args.kv_heads);
  int64_t padded = round_up(args.head_dim, kPanel<V>);
  return rows * (2 * padded + kTile) + 2 * round_up(rows, 16) + (kKeysAtOnce + kTile) * padded;
}

template <class V>
HYLAS_INLINE AttentionScratch attention_scratch(const AttentionArgs& args, int64_t rows, float* memory) {
  AttentionScratch s;
  s.padded_dim = round_up(args.head_dim, kPanel<V>);
  auto take = [&](int64_t count) {
    float* piece = memory;
    memory += count;
    return piece;
  };
  s.query = take(rows * s.padded_dim);
  s.sum = take(rows * s.padded_dim);
  s.weight = take(rows * kTile);
  s.keys = take(kKeysAtOnce * s.padded_dim);
  s.values = take(kTile * s.padded_dim);
  s.highest = take(round_up(rows, 16));
  s.total = take(round_up(rows, 16));
  return s;
}

template <class K>
HYLAS_INLINE const K* position_of(const void* pool, const AttentionArgs& args, const AttentionItem& item,
                                  int64_t position) {
  int64_t page = item.pages[position / args.page_size];
  return static_cast<const K*>(pool) + page * args.page_stride +
         (item.kv_head * args.page_size + position % args.page_size) * args.head_dim;
}

// Brings a vector that is needed soon nearer to the core: pages lie too far apart for the processor to guess.
template <class K>
HYLAS_INLINE void prefetch(const K* from, int64_t dim) {
  const char* bytes = reinterpret_cast<const char*>(from);
  for (int64_t i = 0; i < dim * static_cast<int64_t>(sizeof(K)); i += 64) __builtin_prefetch(bytes + i);
}

template <class V, class T>
HYLAS_INLINE void begin_queries(const AttentionArgs& args, const AttentionItem& item, const AttentionScratch& s) {
  int64_t group = args.heads / args.kv_heads, dim = args.head_dim;
  for (int64_t t = item.token_begin; t < item.token_end; ++t) {
    for (int64_t g = 0; g < group; ++g) {
      int64_t r = (t - item.token_begin) * group + g;
      float* query = s.query + r * s.padded_dim;
      clear<V>(query, s.padded_dim);
      widen<V>(row<T>(args.q, t) + (item.kv_head * group + g) * dim, dim, query);
      scale<V>(query, s.padded_dim, args.scale);
      clear<V>(s.sum + r * s.padded_dim, s.padded_dim);
      s.highest[r] = -__builtin_inff();
      s.total[r] = 0.f;
    }
  }
}

// Positions of the block at `block` that the token sees, of at most `limit`.
HYLAS_INLINE int64_t visible(const AttentionItem& item, int64_t token, int64_t block, int64_t limit) {
  int64_t count = item.position + token + 1 - block;
  return count < 0 ? 0 : count < limit ? count : limit;
}

// weight[r][j] = query[r] . key[block + j] for what each token sees.
template <class V, class K>
HYLAS_INLINE void block_scores(const AttentionArgs& args, const AttentionItem& item, const AttentionScratch& s,
                               int64_t block, int64_t keys) {
  int64_t group = args.heads / args.kv_heads, tokens = item.token_end - item.token_begin;
  for (int64_t first = 0; first < keys; first += kKeysAtOnce) {
    int64_t here = keys - first < kKeysAtOnce ? keys - first : kKeysAtOnce;
    for (int64_t j = 0; j < here; ++j) {
      float* key = s.keys + j * s.padded_dim;
      if (args.head_dim < s.padded_dim) clear<V>(key, s.padded_dim);
      widen<V>(position_of<K>(args.k_pages, args, item, block + first + j), args.head_dim, key);
      prefetch(position_of<K>(args.v_pages, args, item, block + first + j), args.head_dim);
    }
    for (int64_t t = 0; t < tokens; ++t) {
      int64_t count = visible(item, t, block + first, here);
      dots<V>(s.query + t * group * s.padded_dim, s.padded_dim, group, s.keys, s.padded_dim, count, s.padded_dim,
              s.weight + t * group * kTile + first, kTile);
    }
  }
}

// weight = exp(score - highest); what was summed so far is brought to the new highest score.
template <class V>
HYLAS_INLINE void softmax_row(const AttentionScratch& s, int64_t r, int64_t count) {
  using F = typename V::F;
  float* weight = s.weight + r * kTile;
  float highest = s.highest[r];
  for (int64_t j = 0; j < count; ++j) highest = weight[j] > highest ? weight[j] : highest;
  for (int64_t j = count; j < kTile; ++j) weight[j] = 0.f;
  if (highest != s.highest[r]) {
    float lanes[V::kLanes];
    V::store(lanes, exp<V>(V::set(s.highest[r] - highest)));
    s.total[r] *= lanes[0];
    scale<V>(s.sum + r * s.padded_dim, s.padded_dim, lanes[0]);
    s.highest[r] = highest;
  }
  F total = V::zero();
  for_vectors<V>(count, [&](int64_t j, auto n) HYLAS_INLINE_LAMBDA {
    store<V>(weight + j, exp<V>(V::sub(V::load(weight + j), V::set(highest))), n);
    total = V::add(total, V::load(weight + j));
  });
  s.total[r] += V::sum(total);
}

// sum[r] += weight[r] . values
template <class V, class K>
HYLAS_INLINE void block_values(const AttentionArgs& args, const AttentionItem& item, const AttentionScratch& s,
                               int64_t block, int64_t keys) {
  int64_t group = args.heads / args.kv_heads, tokens = item.token_end - item.token_begin;
  for (int64_t j = 0; j < keys; ++j) {
    if (int64_t next = block + kTile + j; next < item.position + tokens) {
      prefetch(position_of<K>(args.k_pages, args, item, next), args.head_dim);
    }
    const K* value = position_of<K>(args.v_pages, args, item, block + j);
    float* to = s.values + j * kPanel<V>;
    for_vectors<V>(args.head_dim, [&](int64_t d, auto n) HYLAS_INLINE_LAMBDA {
      V::store(to + d / kPanel<V> * kTile * kPanel<V> + d % kPanel<V>, load<V>(value + d, n));
    });
    int64_t stored = round_up(args.head_dim, V::kLanes);
    if (stored < s.padded_dim) V::store(to + (s.padded_dim / kPanel<V> - 1) * kTile * kPanel<V> + V::kLanes, V::zero());
  }
  for (int64_t panel = 0; panel < s.padded_dim; panel += kPanel<V>) {
    for (int64_t t = 0; t < tokens; ++t) {
      panel_product<V>(s.weight + t * group * kTile, Strides{kTile, 1}, group, s.values + panel * kTile,
                       visible(item, t, block, kTile), s.sum + t * group * s.padded_dim + panel, s.padded_dim);
    }
  }
}

// out = sum / total * sigmoid(gate)
template <class V, class T>
HYLAS_INLINE void finish_queries(const AttentionArgs& args, const AttentionItem& item, const AttentionScratch& s) {
  using F = typename V::F;
  int64_t group = args.heads / args.kv_heads, dim = args.head_dim;
  for (int64_t t = item.token_begin; t < item.token_end; ++t) {
    for (int64_t g = 0; g < group; ++g) {
      int64_t r = (t - item.token_begin) * group + g, head = item.kv_head * group + g;
      const T* gate = row<T>(args.qg, t) + (2 * head + 1) * dim;
      T* out = row<T>(args.out, t) + head * dim;
      F inverse = V::set(1.f / s.total[r]);
      for_vectors<V>(dim, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
        F value = V::mul(V::load(s.sum + r * s.padded_dim + i), inverse);
        store<V>(out + i, V::mul(value, sigmoid<V>(load<V>(gate + i, n))), n);
      });
    }
  }
}

template <class V, class T, class K>
void attention_item(const AttentionArgs& args, const AttentionItem& item, float* memory) {
  int64_t group = args.heads / args.kv_heads, tokens = item.token_end - item.token_begin;
  AttentionScratch s = attention_scratch<V>(args, tokens * group, memory);
  begin_queries<V, T>(args, item, s);
  int64_t end = item.position + tokens;
  for (int64_t block = 0; block < end; block += kTile) {
    int64_t keys = end - block < kTile ? end - block : kTile;
    block_scores<V, K>(args, item, s, block, keys);
    for (int64_t t = 0; t < tokens; ++t) {
      int64_t count = visible(item, t, block, kTile);
      for (int64_t g = 0; count > 0 && g < group; ++g) softmax_row<V>(s, t * group + g, count);
    }
    block_values<V, K>(args, item, s, block, keys);
  }
  finish_queries<V, T>(args, item, s);
}

template <class V>
void attention_kernel(const AttentionArgs& args, const AttentionItem& item, float* scratch) {
  with_f32_bf16(args.q.dtype, [&](auto* act) {
    with_kv_type(args.kv_dtype, [&](auto* kv) {
      attention_item<V, Pointee<decltype(act)>, Pointee<decltype(kv)>>(args, item, scratch);
    });
  });
}

}  // namespace hylas::cpu
