#pragma once
// Causal attention over paged keys and values (model.md section 3.1). Online softmax over blocks of 64 positions at
// absolute multiples of 64, ascending, afresh in every split of kSplit positions; the splits are added up in ascending
// order. So a query's arithmetic is the same whether its token is decoded alone, by several threads, or prefilled among
// others. Included by other_kernels_<isa>.cc.
#include "ops/cpu/rope_kernels.h"
#include "ops/cpu/tile_kernels.h"

namespace hylas::cpu {

// Keys converted together: they stay in the first-level cache while all queries use them. For one token smaller steps
// leave the memory time to bring the next ones.
constexpr int64_t kKeysAtOnce = 16;
constexpr int64_t kKeysAtOnceDecode = 4;

// Between panels of values: one row more than they have, lest all panels fall on the same cache sets.
template <class V>
constexpr int64_t kValueStride = (kTile + 1) * kPanel<V>;

// What rows have of the positions taken so far.
struct AttentionSums {
  float* sum;      // [rows][padded_dim]: of weight * value
  float* highest;  // [rows]: score
  float* total;    // [rows]: of the exponentials, 0 before the first
};

// The item's scratch; rows are (token, head of the group), head fastest.
struct AttentionScratch {
  int64_t padded_dim;  // head_dim in whole panels; what is added is zero
  float* query;        // [rows][padded_dim], scaled
  float* weight;       // [rows][kTile]: scores, then their exponentials
  float* keys;         // [kKeysAtOnce][padded_dim]
  float* values;       // [panels][kTile + 1][kPanel], see kValueStride
  AttentionSums now;   // of one split
  AttentionSums all;   // of the splits before it
};

template <class V>
int64_t attention_sums_floats_kernel(const AttentionArgs& args, int64_t tokens) {
  int64_t rows = tokens * (args.heads / args.kv_heads);
  return rows * round_up(args.head_dim, kPanel<V>) + 2 * round_up(rows, 16);
}

template <class V>
HYLAS_INLINE AttentionSums attention_sums(int64_t padded_dim, int64_t rows, float* memory) {
  float* highest = memory + rows * padded_dim;
  return {memory, highest, highest + round_up(rows, 16)};
}

template <class V>
int64_t attention_floats_kernel(const AttentionArgs& args, int64_t tokens) {
  int64_t rows = tokens * (args.heads / args.kv_heads);
  int64_t padded = round_up(args.head_dim, kPanel<V>);
  return 2 * attention_sums_floats_kernel<V>(args, tokens) + rows * (padded + kTile) +
         (kKeysAtOnce + kTile + 1) * padded;
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
  const int64_t sums = rows * s.padded_dim + 2 * round_up(rows, 16);
  s.now = attention_sums<V>(s.padded_dim, rows, take(sums));
  s.all = attention_sums<V>(s.padded_dim, rows, take(sums));
  s.query = take(rows * s.padded_dim);
  s.weight = take(rows * kTile);
  s.keys = take(kKeysAtOnce * s.padded_dim);
  s.values = take((kTile + 1) * s.padded_dim);
  return s;
}

template <class K>
HYLAS_INLINE const K* position_of(const void* pool, const AttentionArgs& args, const AttentionItem& item,
                                  int64_t position) {
  int64_t page = item.pages[position >> args.page_shift], within = position & (args.page_size - 1);
  return static_cast<const K*>(pool) + page * args.page_stride +
         (item.kv_head * args.page_size + within) * args.head_dim;
}

// Asks for `count` vectors from `position` on that are needed soon. A few at a time between computations, so that
// memory and arithmetic work side by side: pages lie too far apart for the processor to guess.
template <class K>
HYLAS_INLINE void prefetch(const void* pool, const AttentionArgs& args, const AttentionItem& item, int64_t position,
                           int64_t count) {
  int64_t end = item.position + item.token_end - item.token_begin;
  for (int64_t p = position; p < position + count && p < end; ++p) {
    const char* bytes = reinterpret_cast<const char*>(position_of<K>(pool, args, item, p));
    for (int64_t i = 0; i < args.head_dim * static_cast<int64_t>(sizeof(K)); i += 64)
      __builtin_prefetch(bytes + i, 0, 2);
  }
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
    }
  }
}

template <class V>
HYLAS_INLINE void begin_sums(const AttentionSums& sums, int64_t rows, int64_t padded_dim) {
  clear<V>(sums.sum, rows * padded_dim);
  for (int64_t r = 0; r < rows; ++r) {
    sums.highest[r] = -__builtin_inff();
    sums.total[r] = 0.f;
  }
}

// all += now, for rows that saw any of the split. The first one is taken as it is.
template <class V>
HYLAS_INLINE void add_split(const AttentionSums& all, const AttentionSums& now, int64_t rows, int64_t padded_dim) {
  using F = typename V::F;
  for (int64_t r = 0; r < rows; ++r) {
    if (now.total[r] == 0.f) continue;
    float highest = now.highest[r] > all.highest[r] ? now.highest[r] : all.highest[r];
    F old_factor = exp<V>(V::set(all.highest[r] - highest)), factor = exp<V>(V::set(now.highest[r] - highest));
    if (all.total[r] == 0.f) old_factor = V::zero();
    const float* from = now.sum + r * padded_dim;
    float* to = all.sum + r * padded_dim;
    for (int64_t i = 0; i < padded_dim; i += V::kLanes) {
      V::store(to + i, V::fma(V::load(from + i), factor, V::mul(V::load(to + i), old_factor)));
    }
    float lanes[V::kLanes];
    V::store(lanes, V::fma(V::set(now.total[r]), factor, V::mul(V::set(all.total[r]), old_factor)));
    all.total[r] = lanes[0];
    all.highest[r] = highest;
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
  int64_t step = tokens == 1 ? kKeysAtOnceDecode : kKeysAtOnce;
  for (int64_t first = 0; first < keys; first += step) {
    int64_t here = keys - first < step ? keys - first : step;
    for (int64_t j = 0; j < here; ++j) {
      float* key = s.keys + j * s.padded_dim;
      if (args.head_dim < s.padded_dim) clear<V>(key, s.padded_dim);
      widen<V>(position_of<K>(args.k_pages, args, item, block + first + j), args.head_dim, key);
    }
    prefetch<K>(args.v_pages, args, item, block + first, here);
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
  int64_t whole = round_up(count, V::kLanes);
  for (int64_t j = count; j < whole; ++j) weight[j] = weight[0];  // changes no maximum
  F best = V::set(s.now.highest[r]);
  for (int64_t j = 0; j < whole; j += V::kLanes) best = V::max(V::load(weight + j), best);  // NaN is passed over
  float highest = V::highest(best);
  if (highest != s.now.highest[r]) {
    float lanes[V::kLanes];
    V::store(lanes, exp<V>(V::set(s.now.highest[r] - highest)));
    s.now.total[r] *= lanes[0];
    scale<V>(s.now.sum + r * s.padded_dim, s.padded_dim, lanes[0]);
    s.now.highest[r] = highest;
  }
  for (int64_t j = 0; j < whole; j += V::kLanes) {
    V::store(weight + j, exp<V>(V::sub(V::load(weight + j), V::set(highest))));
  }
  for (int64_t j = count; j < whole; ++j) weight[j] = 0.f;
  F total = V::zero();
  for (int64_t j = 0; j < whole; j += V::kLanes) total = V::add(total, V::load(weight + j));
  s.now.total[r] += V::sum(total);
}

// The values of a block as floats, one panel of columns after another.
template <class V, class K>
HYLAS_INLINE void widen_values(const AttentionArgs& args, const AttentionItem& item, const AttentionScratch& s,
                               int64_t block, int64_t keys) {
  for (int64_t j = 0; j < keys; ++j) {
    const K* value = position_of<K>(args.v_pages, args, item, block + j);
    float* to = s.values + j * kPanel<V>;
    int64_t d = 0;
    for (; d + kPanel<V> <= args.head_dim; d += kPanel<V>, to += kValueStride<V>) {
      V::store(to, load<V>(value + d));
      V::store(to + V::kLanes, load<V>(value + d + V::kLanes));
    }
    if (d == args.head_dim) continue;
    V::store(to + V::kLanes, V::zero());
    for_vectors<V>(args.head_dim - d,
                   [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA { V::store(to + i, load<V>(value + d + i, n)); });
  }
}

// sum[r] += weight[r] . values
template <class V, class K>
HYLAS_INLINE void block_values(const AttentionArgs& args, const AttentionItem& item, const AttentionScratch& s,
                               int64_t block, int64_t keys) {
  int64_t group = args.heads / args.kv_heads, tokens = item.token_end - item.token_begin;
  int64_t panels = s.padded_dim / kPanel<V>, ahead = round_up(kTile, panels) / panels;
  widen_values<V, K>(args, item, s, block, keys);
  // Tokens that see the same keys are rows of one product.
  bool all_visible = visible(item, 0, block, kTile) == visible(item, tokens - 1, block, kTile);
  int64_t step = all_visible ? tokens : 1;
  for (int64_t panel = 0; panel < panels; ++panel) {
    prefetch<K>(args.k_pages, args, item, block + kTile + panel * ahead, ahead);
    for (int64_t t = 0; t < tokens; t += step) {
      panel_product<V>(s.weight + t * group * kTile, Strides{kTile, 1}, step * group,
                       s.values + panel * kValueStride<V>, visible(item, t, block, kTile),
                       s.now.sum + t * group * s.padded_dim + panel * kPanel<V>, s.padded_dim);
    }
  }
}

// out = sum / total * sigmoid(gate)
template <class V, class T>
HYLAS_INLINE void finish_queries(const AttentionArgs& args, const AttentionItem& item, const AttentionSums& all,
                                 int64_t padded_dim) {
  using F = typename V::F;
  int64_t group = args.heads / args.kv_heads, dim = args.head_dim;
  for (int64_t t = item.token_begin; t < item.token_end; ++t) {
    for (int64_t g = 0; g < group; ++g) {
      int64_t r = (t - item.token_begin) * group + g, head = item.kv_head * group + g;
      const T* gate = row<T>(args.qg, t) + (2 * head + 1) * dim;
      T* out = row<T>(args.out, t) + head * dim;
      F inverse = V::set(1.f / all.total[r]);
      for_vectors<V>(dim, [&](int64_t i, auto n) HYLAS_INLINE_LAMBDA {
        F value = V::mul(V::load(all.sum + r * padded_dim + i), inverse);
        store<V>(out + i, V::mul(value, sigmoid<V>(load<V>(gate + i, n))), n);
      });
    }
  }
}

template <class V, class T, class K>
void attention_item(const AttentionArgs& args, const AttentionItem& item, float* memory) {
  int64_t group = args.heads / args.kv_heads, tokens = item.token_end - item.token_begin;
  AttentionScratch s = attention_scratch<V>(args, tokens * group, memory);
  if (item.sums) s.now = attention_sums<V>(s.padded_dim, tokens * group, item.sums);
  begin_queries<V, T>(args, item, s);
  begin_sums<V>(s.all, tokens * group, s.padded_dim);
  int64_t end = item.position + tokens, split_end = 0;
  if (item.sums && end > item.begin + kSplit) end = item.begin + kSplit;
  for (int64_t block = item.begin; block < end; block += kTile) {
    if (block == item.begin || block == split_end) {
      begin_sums<V>(s.now, tokens * group, s.padded_dim);
      split_end = block + kSplit;
    }
    int64_t keys = end - block < kTile ? end - block : kTile;
    block_scores<V, K>(args, item, s, block, keys);
    for (int64_t t = 0; t < tokens; ++t) {
      int64_t count = visible(item, t, block, kTile);
      for (int64_t g = 0; count > 0 && g < group; ++g) softmax_row<V>(s, t * group + g, count);
    }
    block_values<V, K>(args, item, s, block, keys);
    if (!item.sums && (block + kTile == split_end || block + kTile >= end)) {
      add_split<V>(s.all, s.now, tokens * group, s.padded_dim);
    }
  }
  if (!item.sums) finish_queries<V, T>(args, item, s.all, s.padded_dim);
}

template <class V>
void attention_kernel(const AttentionArgs& args, const AttentionItem& item, float* scratch) {
  with_f32_bf16(args.q.dtype, [&](auto* act) {
    with_kv_type(args.kv_dtype, [&](auto* kv) {
      attention_item<V, Pointee<decltype(act)>, Pointee<decltype(kv)>>(args, item, scratch);
    });
  });
}

// The sums of one token's splits, attention_sums_floats apart, to its output.
template <class V>
void attention_combine_kernel(const AttentionArgs& args, const AttentionItem& item, int64_t splits, float* scratch) {
  int64_t group = args.heads / args.kv_heads, padded_dim = round_up(args.head_dim, kPanel<V>);
  AttentionSums all = attention_sums<V>(padded_dim, group, scratch);
  begin_sums<V>(all, group, padded_dim);
  for (int64_t i = 0; i < splits; ++i) {
    float* sums = item.sums + i * attention_sums_floats_kernel<V>(args, 1);
    add_split<V>(all, attention_sums<V>(padded_dim, group, sums), group, padded_dim);
  }
  with_f32_bf16(args.q.dtype,
                [&](auto* act) { finish_queries<V, Pointee<decltype(act)>>(args, item, all, padded_dim); });
}

}  // namespace hylas::cpu
