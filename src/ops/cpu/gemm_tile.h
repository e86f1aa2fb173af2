#pragma once
// Register tiles of gemm_types.h: how each weight format turns into vectors, and the dot products of R rows of x and
// four rows of W.
#include <cstring>
#include <type_traits>
#include <utility>

#include "ops/cpu/gemm_types.h"
#include "ops/cpu/simd.h"

namespace hylas::cpu {

// Two bf16 to a 32-bit word: the elements 0, 2, 4, ... (phase 0) or 1, 3, 5, ... of kLanes words.
template <class V, int phase>
HYLAS_INLINE typename V::F bf16_phase(const void* words) {
  typename V::I bits = V::load_int(words);
  if constexpr (phase == 0) return V::as_float(V::template shift_left<16>(bits));
  return V::as_float(V::high_half(bits));
}

// Four e4m3 to a 32-bit word, as bf16 times 2^-120: the elements 0 and 2 (phase 0) or 1 and 3 of kLanes words. In
// 16-bit lanes: the byte to the top, then its exponent and mantissa to those of a bf16.
template <class V, int phase>
HYLAS_INLINE typename V::I e4m3_as_bf16(typename V::I words) {
  if constexpr (phase == 0) words = V::template shift_left16<8>(words);
  return V::bit_and(V::template shift_right16<4>(words), static_cast<int32_t>(0x87f087f0u));
}

// C rows of W, widened in registers: at<phase>(c, offset) is step `phase` of the group at that byte of row c. A group
// is kLanes 32-bit words.
template <class V, int C>
struct RowsF32 {
  static constexpr int kPhases = 1;
  static constexpr int kElementBytes = 4;
  const char* row[C];
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t offset) const {
    return V::load(reinterpret_cast<const float*>(row[c] + offset));
  }
};

template <class V, int C>
struct RowsBF16 {
  static constexpr int kPhases = 2;
  static constexpr int kElementBytes = 2;
  const char* row[C];
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t offset) const {
    return bf16_phase<V, phase>(row[c] + offset);
  }
};

template <class V, int C>
struct RowsFp8 {
  static constexpr int kPhases = 4;
  static constexpr int kElementBytes = 1;
  const char* row[C];
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t offset) const {
    typename V::I words = e4m3_as_bf16<V, phase / 2>(V::load_int(row[c] + offset));
    return V::as_float(phase % 2 == 0 ? V::template shift_left<16>(words) : V::high_half(words));
  }
};

// FP8 rows that were turned into bf16 before, in the order of the steps: a group of RowsFp8 is two of these, whole
// ones.
template <class V, int C>
struct RowsFp8Wide : RowsBF16<V, C> {};

// body(0), body(1), ... body(count - 1) with constants: loops over registers must be gone before the compiler decides
// what lives in memory.
template <class Body, int... i>
HYLAS_INLINE void unrolled_indices(Body&& body, std::integer_sequence<int, i...>) {
  (body(std::integral_constant<int, i>()), ...);
}
template <int count, class Body>
HYLAS_INLINE void unrolled(Body&& body) {
  unrolled_indices(body, std::make_integer_sequence<int, count>());
}

// run(sum, from, x, w, steps): Tile::panel() by code of an instruction set's own.
template <class V, int R, int C>
struct PanelSteps {
  static constexpr bool kGiven = false;
};

// The dot products of R rows of x and C of W.
template <class V, int R, int C>
struct Tile {
  static constexpr int kSums = R * C;
  typename V::F sum[kSums];  // [R][C]

  HYLAS_INLINE void load(const float* from) {
    unrolled<kSums>([&](auto i) HYLAS_LAMBDA_INLINE { sum[i] = V::load(from + i * V::kLanes); });
  }
  HYLAS_INLINE void store(float* to) const {
    unrolled<kSums>([&](auto i) HYLAS_LAMBDA_INLINE { V::store(to + i * V::kLanes, sum[i]); });
  }
  // One group: x advances by kPhases steps. Step by step, so that the multiply-adds of one sum, which wait for each
  // other, lie apart.
  template <class Rows>
  HYLAS_INLINE void group(const Rows& w, int64_t group, const float*& x) {
    unrolled<Rows::kPhases>([&](auto p) HYLAS_LAMBDA_INLINE { step<p>(w, group, x + p * R * V::kLanes); });
    x += Rows::kPhases * R * V::kLanes;
  }
  // The sums `from` (null: zeros) and steps over rows of W that are floats already: w is [steps][C][lanes].
  HYLAS_INLINE void panel(const float* from, const float* x, const float* w, int64_t steps) {
    if constexpr (PanelSteps<V, R, C>::kGiven) return PanelSteps<V, R, C>::run(sum, from, x, w, steps);
    unrolled<kSums>([&](auto i) HYLAS_LAMBDA_INLINE { sum[i] = from ? V::load(from + i * V::kLanes) : V::zero(); });
    for (; steps > 0; --steps, x += R * V::kLanes, w += C * V::kLanes) {
      typename V::F xs[R];
      unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE { xs[r] = V::in_register(V::load(x + r * V::kLanes)); });
      unrolled<C>([&](auto c) HYLAS_LAMBDA_INLINE {
        const typename V::F weight = V::in_register(V::load(w + c * V::kLanes));
        unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE { V::accumulate(sum[r * C + c], weight, xs[r]); });
      });
    }
  }

 private:
  // With several rows x and a weight stay in registers, R + C loads for R C multiply-adds: with a load for each of
  // those, loading would be the narrower pipe.
  template <int phase, class Rows>
  HYLAS_INLINE void step(const Rows& w, int64_t group, const float* x) {
    int64_t offset = group * (4 * V::kLanes);
    // With three rows no register is left to keep the words of a group from one step to the next, so the compiler must
    // not know that the next step reads the same ones.
    if constexpr (R > 2) asm volatile("" : "+r"(offset));
    typename V::F xs[R];
    unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE {
      xs[r] = V::load(x + r * V::kLanes);
      xs[r] = V::in_register(xs[r]);
    });
    unrolled<C>([&](auto c) HYLAS_LAMBDA_INLINE {
      typename V::F weight = w.template at<phase>(c, offset);
      if constexpr (R > 1) weight = V::in_register(weight);
      unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE { V::accumulate(sum[r * C + c], weight, xs[r]); });
    });
  }
};

// The rest of rows behind their last whole group, filled up with zeros: rows end anywhere.
template <class V, int C, class Rows>
struct RowsTail {
  alignas(64) char bytes[C][4 * V::kLanes];
  Rows rows;
  HYLAS_INLINE RowsTail(const Rows& whole, int64_t group, int64_t elements) : rows(whole) {
    std::memset(bytes, 0, sizeof bytes);
    for (int c = 0; c < C; ++c) {
      std::memcpy(bytes[c], whole.row[c] + group * (4 * V::kLanes),
                  static_cast<size_t>(elements * Rows::kElementBytes));
      rows.row[c] = bytes[c];
    }
  }
};

// `elements` elements of C rows from their begin on as floats, [steps][C][lanes]; what fills the last group is zero.
template <class V, int C, class Rows>
HYLAS_INLINE void widen_rows(const Rows& w, int64_t elements, float* to) {
  constexpr int64_t kPhases = Rows::kPhases, L = V::kLanes;
  const auto group = [&](const Rows& rows, int64_t offset) HYLAS_LAMBDA_INLINE {
    for (int c = 0; c < C; ++c) {
      unrolled<kPhases>([&](auto p)
                            HYLAS_LAMBDA_INLINE { V::store(to + (p * C + c) * L, rows.template at<p>(c, offset)); });
    }
    to += kPhases * C * L;
  };
  const int64_t groups = elements / (kPhases * L), rest = elements - groups * kPhases * L;
  for (int64_t g = 0; g < groups; ++g) group(w, g * (4 * L));
  if (rest > 0) {
    const RowsTail<V, C, Rows> tail(w, groups, rest);
    group(tail.rows, 0);
  }
}

// Memory to ask for while a tile is at work: of each line of its rows as many lines as it has rows, `between` bytes
// apart, and those of the next line `advance` bytes on.
struct Ahead {
  const char* at;
  int64_t between;
  int64_t advance;
  bool near;  // it fits into the first-level cache, beside the rows
};

// add(rows, pairs, x, totals, ahead): the first pairs of groups of add_products(), by code of an instruction set's own.
// Returns how many it did: none or all.
template <class V, int R, class Rows>
struct GroupPairs {
  static constexpr bool kGiven = false;
};

// Adds the products of `elements` inputs, from the rows' begin on, to `totals`, [R][C] vectors.
template <class V, int R, int C, class Rows>
HYLAS_INLINE void add_products(Rows rows, int64_t elements, const float* x, float* totals, Ahead ahead) {
  constexpr int64_t kGroupBytes = 4 * V::kLanes, kLine = 64;
  constexpr bool kWide = std::is_same_v<Rows, RowsFp8Wide<V, C>>;
  // A widened row always ends with a whole group.
  const int64_t groups =
      kWide ? (elements + kGroupBytes - 1) / kGroupBytes * 2 : elements / (Rows::kPhases * V::kLanes);
  int64_t g = 0;
  if constexpr (GroupPairs<V, R, Rows>::kGiven) {
    if (groups > 1) g = 2 * GroupPairs<V, R, Rows>::add(rows.row, groups / 2, x, totals, ahead);
    x += g * Rows::kPhases * R * V::kLanes;
    ahead.at += g / 2 * ahead.advance;
  }
  Tile<V, R, C> tile;
  tile.load(totals);
  for (; g < groups; ++g) {
    if (g % (kLine / kGroupBytes) == 0) {
      for (int c = 0; c < C; ++c) __builtin_prefetch(ahead.at + c * ahead.between, 0, 2);
      ahead.at += ahead.advance;
    }
    tile.group(rows, g, x);
  }
  if constexpr (!kWide) {
    if (int64_t rest = elements - groups * Rows::kPhases * V::kLanes; rest > 0) {
      RowsTail<V, C, Rows> tail(rows, groups, rest);
      tile.group(tail.rows, 0, x);
    }
  }
  tile.store(totals);
}

}  // namespace hylas::cpu
