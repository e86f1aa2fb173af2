#pragma once
// Register tiles of gemm.h: how each weight format turns into vectors, and the dot products of R rows and four outputs.
#include <cstring>
#include <type_traits>
#include <utility>

#include "ops/cpu/gemm_types.h"
#include "ops/cpu/simd.h"

namespace hylas::cpu {

// Four rows of W, widened in registers. at<phase>(c, group): step `phase` of that group of row c.
// A group is kLanes 32-bit words of a row, whatever the format.
template <class V>
struct RowsF32 {
  static constexpr int kPhases = 1;
  static constexpr int kElementBytes = 4;
  const char* row[kColumnTile];
  HYLAS_INLINE void enter_block(int64_t) {}
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t group) const {
    return V::load(reinterpret_cast<const float*>(row[c] + group * (4 * V::kLanes)));
  }
};

template <class V>
struct RowsBF16 {
  static constexpr int kPhases = 2;
  static constexpr int kElementBytes = 2;
  const char* row[kColumnTile];
  HYLAS_INLINE void enter_block(int64_t) {}
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t group) const {
    typename V::I words = V::load_int(row[c] + group * (4 * V::kLanes));
    if constexpr (phase == 0) return V::as_float(V::template shift_left<16>(words));
    return V::as_float(V::high_half(words));
  }
};

template <class V>
struct RowsFp8 {
  static constexpr int kPhases = 4;
  static constexpr int kElementBytes = 1;
  const char* row[kColumnTile];
  const float* scale[kColumnTile];  // of the slice's first block
  typename V::F block_scale[kColumnTile];
  HYLAS_INLINE void enter_block(int64_t block) {
    for (int c = 0; c < kColumnTile; ++c) block_scale[c] = V::set(scale[c][block] * kFp8Half);
  }
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t group) const {
    // In 16-bit lanes: the byte to the top, then its exponent and mantissa to those of a bf16. Steps 0 and 1 share this
    // much work, and so do 2 and 3.
    typename V::I words = V::load_int(row[c] + group * (4 * V::kLanes));
    if constexpr (phase < 2) words = V::template shift_left16<8>(words);
    words = V::bit_and(V::template shift_right16<4>(words), static_cast<int32_t>(0x87f087f0u));
    words = phase % 2 == 0 ? V::template shift_left<16>(words) : V::high_half(words);
    return V::mul(V::as_float(words), block_scale[c]);
  }
};

// Four rows of W widened before: [steps][4][lanes].
template <class V>
struct RowsPanel {
  static constexpr int kPhases = 1;
  const float* data;
  template <int phase>
  HYLAS_INLINE typename V::F at(int c, int64_t step) const {
    return V::load(data + (step * kColumnTile + c) * V::kLanes);
  }
};

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

template <class V, int R>
struct Tile {
  typename V::F sum[R * kColumnTile];  // [R][4]

  HYLAS_INLINE void clear() {
    unrolled<R * kColumnTile>([&](auto i) HYLAS_LAMBDA_INLINE { sum[i] = V::zero(); });
  }
  HYLAS_INLINE void load(const float* from) {
    unrolled<R * kColumnTile>([&](auto i) HYLAS_LAMBDA_INLINE { sum[i] = V::load(from + i * V::kLanes); });
  }
  HYLAS_INLINE void store(float* to) const {
    unrolled<R * kColumnTile>([&](auto i) HYLAS_LAMBDA_INLINE { V::store(to + i * V::kLanes, sum[i]); });
  }
  // One group: x advances by kPhases steps. Step by step, so that the multiply-adds of one sum, which wait for each
  // other, lie apart.
  template <class Rows>
  HYLAS_INLINE void group(const Rows& w, int64_t group, const float*& x) {
    unrolled<Rows::kPhases>([&](auto p) HYLAS_LAMBDA_INLINE { step<p>(w, group, x + p * R * V::kLanes); });
    x += Rows::kPhases * R * V::kLanes;
  }

 private:
  // With several rows x and a weight stay in registers, R + 4 loads for 4 R multiply-adds: with a load for each of
  // those, loading would be the narrower pipe.
  template <int phase, class Rows>
  HYLAS_INLINE void step(const Rows& w, int64_t group, const float* x) {
    typename V::F xs[R];
    unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE {
      xs[r] = V::load(x + r * V::kLanes);
      if constexpr (R > 1) xs[r] = V::in_register(xs[r]);
    });
    unrolled<kColumnTile>([&](auto c) HYLAS_LAMBDA_INLINE {
      typename V::F weight = w.template at<phase>(c, group);
      if constexpr (R > 1) weight = V::in_register(weight);
      unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE {
        constexpr int i = r * kColumnTile + c;
        sum[i] = V::fma(weight, xs[r], sum[i]);
      });
    });
  }
};

// The rest of four rows behind their last whole group, filled up with zeros: rows end anywhere.
template <class V, class Rows>
struct RowsTail {
  alignas(64) char bytes[kColumnTile][4 * V::kLanes];
  Rows rows;
  HYLAS_INLINE RowsTail(const Rows& whole, int64_t group, int64_t elements) : rows(whole) {
    std::memset(bytes, 0, sizeof bytes);
    for (int c = 0; c < kColumnTile; ++c) {
      std::memcpy(bytes[c], whole.row[c] + group * (4 * V::kLanes),
                  static_cast<size_t>(elements * Rows::kElementBytes));
      rows.row[c] = bytes[c];
    }
  }
};

// Calls visit(rows, group) for every whole group of `size` elements in ascending order, then with the tail, if any.
template <class V, class Rows, class Visit>
HYLAS_INLINE void for_each_group(Rows rows, int64_t size, Visit&& visit) {
  constexpr int64_t kGroup = Rows::kPhases * V::kLanes;
  constexpr int64_t kGroupsPerBlock = kScaleBlock / kGroup;
  int64_t groups = size / kGroup;
  if constexpr (Rows::kPhases == 4) {
    int64_t block = 0;
    for (; (block + 1) * kGroupsPerBlock <= groups; ++block) {
      rows.enter_block(block);
      for (int64_t g = 0; g < kGroupsPerBlock; ++g) visit(rows, block * kGroupsPerBlock + g);
    }
    if (block * kScaleBlock < size) rows.enter_block(block);
    for (int64_t g = block * kGroupsPerBlock; g < groups; ++g) visit(rows, g);
  } else {
    for (int64_t g = 0; g < groups; ++g) visit(rows, g);
  }
  if (int64_t rest = size - groups * kGroup; rest > 0) {
    RowsTail<V, Rows> tail(rows, groups, rest);
    visit(tail.rows, 0);
  }
}

}  // namespace hylas::cpu
