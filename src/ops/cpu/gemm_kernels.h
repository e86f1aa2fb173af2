#pragma once
// The kernels of gemm.h over a vector type V.
#include "ops/cpu/gemm_many.h"

namespace hylas::cpu {

HYLAS_INLINE float bf16_value(uint16_t bits) {
  uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

template <class V>
struct Gemm {
  static constexpr int L = V::kLanes;

  // --- Packing of x.

  template <int P, bool bf16>
  static void pack_group(const RowSource& from, const SliceTable& slices, int64_t row, int rows, float* to) {
    constexpr float kFactor = P == 4 ? kFp8Half : 1.f;
    for (int s = 0; s < slices.count; ++s) {
      int64_t steps = slices.steps(s, P, L);
      for (int r = 0; r < rows; ++r) {
        int64_t source = (from.index ? from.index[row + r] : row + r) * from.stride + slices.begin[s];
        pack_slice<P, bf16>(from.data, source, slices.size(s), kFactor, to + r * L, rows * L);
      }
      to += steps * rows * L;
    }
  }

  // Elements e, P + e, 2 P + e, ... of a group are the lanes of one step, e = element_of_step(step).
  template <int P, bool bf16>
  static HYLAS_INLINE void pack_slice(const void* data, int64_t source, int64_t size, float factor, float* to,
                                      int64_t step_stride) {
    int64_t i = 0;
    if constexpr (bf16 && P == 2) {  // the words of x part as those of a weight do
      const uint16_t* words = static_cast<const uint16_t*>(data) + source;
      for (; i + P * L <= size; i += P * L, to += P * step_stride) {
        V::store(to, bf16_phase<V, 0>(words + i));
        V::store(to + step_stride, bf16_phase<V, 1>(words + i));
      }
    }
    if constexpr (bf16 && P == 4) {
      const uint16_t* words = static_cast<const uint16_t*>(data) + source;
      for (; i + P * L <= size; i += P * L, to += P * step_stride) {
        uint32_t pairs[2 * L], steps[P][L];
        std::memcpy(pairs, words + i, sizeof pairs);
        for (int lane = 0; lane < L; ++lane) {
          steps[0][lane] = pairs[2 * lane] << 16;
          steps[1][lane] = pairs[2 * lane + 1] << 16;
          steps[2][lane] = pairs[2 * lane] & 0xffff0000u;
          steps[3][lane] = pairs[2 * lane + 1] & 0xffff0000u;
        }
        for (int p = 0; p < P; ++p) {
          V::store(to + p * step_stride, V::mul(V::as_float(V::load_int(steps[p])), V::set(factor)));
        }
      }
    }
    auto element = [&](int64_t i) {
      if constexpr (bf16) return bf16_value(static_cast<const uint16_t*>(data)[source + i]) * factor;
      return static_cast<const float*>(data)[source + i] * factor;
    };
    for (; i + P * L <= size; i += P * L, to += P * step_stride) {
      for (int p = 0; p < P; ++p) {
        for (int lane = 0; lane < L; ++lane) to[p * step_stride + lane] = element(i + lane * P + element_of_step<P>(p));
      }
    }
    if (i == size) return;
    for (int p = 0; p < P; ++p) {
      for (int lane = 0; lane < L; ++lane) {
        int64_t at = i + lane * P + element_of_step<P>(p);
        to[p * step_stride + lane] = at < size ? element(at) : 0.f;
      }
    }
  }

  static void pack(const RowSource& from, WeightFormat format, const SliceTable& slices, const PackedRows& to,
                   int64_t begin, int64_t end) {
    // `begin` may fall between the two rows of a group of the row before.
    if (begin > 0 && to.rows - begin == 1) ++begin;
    int rows = 0;
    for (int64_t row = begin; row < end; row += rows) {
      rows = row_group_size(to.rows - row);
      float* group = to.data + row * to.steps * L;
      switch (format) {
        case WeightFormat::kF32:
          pack_rows<1>(from, slices, row, rows, group);
          break;
        case WeightFormat::kBF16:
          pack_rows<2>(from, slices, row, rows, group);
          break;
        case WeightFormat::kFp8:
          pack_rows<4>(from, slices, row, rows, group);
          break;
      }
    }
  }
  template <int P>
  static void pack_rows(const RowSource& from, const SliceTable& slices, int64_t row, int rows, float* to) {
    from.bf16 ? pack_group<P, true>(from, slices, row, rows, to) : pack_group<P, false>(from, slices, row, rows, to);
  }

  // --- Products.

  // Outputs [begin, end), taken together: all rows of x pass over their weights while those are in a cache.
  struct Columns {
    const Product* product;
    int64_t begin;
    int64_t end;
    const char* wide;     // FP8 rows from `begin` on as bf16, see widen()
    int64_t wide_stride;  // bytes
    float* totals;        // sums of one group of rows between the parts of a slice
  };

  // Part of a slice: `inputs` elements from `skip` on, which are the packed rows' steps from `step` on.
  struct Part {
    int slice;
    int64_t skip;
    int64_t inputs;
    int64_t step;
  };

  // The part of rows [output, output + C) of the weight; beyond the last row, that row again.
  template <int C, class Rows>
  static HYLAS_INLINE Rows rows_at(const Columns& columns, const Part& part, int64_t output) {
    const Product& product = *columns.product;
    Rows rows;
    for (int c = 0; c < C; ++c) {
      int64_t n = output + c < columns.end ? output + c : columns.end - 1;
      if constexpr (std::is_same_v<Rows, RowsFp8Wide<V, C>>) {
        rows.row[c] = columns.wide + (n - columns.begin) * columns.wide_stride + part.step * (2 * L);
      } else {
        rows.row[c] = static_cast<const char*>(product.weight) + n * product.weight_stride +
                      (product.slices.begin[part.slice] + part.skip) * Rows::kElementBytes;
      }
    }
    return rows;
  }

  // What a tile over these rows asks for in the last pass over the columns: as many rows behind the columns. Where the
  // rows of the weight lie side by side, in the order of the memory, which answers to that a third faster.
  template <class Rows>
  static HYLAS_INLINE Ahead ahead_of(const Columns& columns, const Rows& rows, int64_t output, bool is_last_pass) {
    constexpr int64_t kRows = std::extent_v<decltype(rows.row)>, kLine = 64;
    const Product& product = *columns.product;
    const char* row = rows.row[0];
    if (!is_last_pass) return {row, rows.row[1] - row, kLine, false};
    const int64_t row_bytes = product.slices.begin[product.slices.count] * Rows::kElementBytes;
    const char* begin = static_cast<const char*>(product.weight) + output * product.weight_stride;
    const char* next = begin + (columns.end - columns.begin) * product.weight_stride;
    if (product.weight_stride != row_bytes) {
      return {next + (row - begin), product.weight_stride, kLine, false};
    }
    return {next + (row - begin) * kRows, kLine, kLine * kRows, kRows * row_bytes <= kNearBytes};
  }

  template <template <class, int> class Kind, int R>
  static void part_tiles(const Columns& columns, const Part& part, const float* x, int64_t row, bool is_last_pass) {
    constexpr int C = R == 1 ? kColumnTileOne : kColumnTile;
    using Rows = Kind<V, C>;
    const Product& product = *columns.product;
    const bool is_last = part.skip + part.inputs == product.slices.size(part.slice);
    for (int64_t n = columns.begin; n < columns.end; n += C) {
      float* totals = columns.totals + (n - columns.begin) * R * L;
      if (part.skip == 0) std::memset(totals, 0, sizeof(float) * R * C * L);
      const Rows rows = rows_at<C, Rows>(columns, part, n);
      add_products<V, R, C>(rows, part.inputs, x, totals, ahead_of(columns, rows, n, is_last_pass));
      if (!is_last) continue;
      for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C && n + c < columns.end; c += 4) {
          const float* sums = totals + (r * C + c) * L;
          finish<V>(product, part.slice, row + r, n + c, columns.end, V::load(sums), V::load(sums + L),
                    V::load(sums + 2 * L), V::load(sums + 3 * L));
        }
      }
    }
  }

  // Rows [row, row + R) of x over the columns. A part of x stays in the first-level cache meanwhile. What comes behind
  // the columns is asked for in the last pass over them.
  template <template <class, int> class Kind, int R>
  static void row_group(const Columns& columns, const PackedRows& x, int64_t row) {
    constexpr bool kWide = std::is_same_v<Kind<V, 4>, RowsFp8Wide<V, 4>>;
    constexpr int P = kWide ? 4 : Kind<V, 4>::kPhases;
    constexpr int64_t kInputs = kPartValues / R / kScaleBlock * kScaleBlock;
    const bool is_last_pass = !kWide && row + R == x.rows;
    const float* group = x.data + row * x.steps * L;
    Part part{0, 0, 0, 0};
    for (; part.slice < columns.product->slices.count; ++part.slice) {
      const int64_t size = columns.product->slices.size(part.slice);
      part.skip = 0;
      do {
        part.inputs = size - part.skip < kInputs ? size - part.skip : kInputs;
        part_tiles<Kind, R>(columns, part, group + part.step * R * L, x.first + row, is_last_pass);
        part.step += (part.inputs + P * L - 1) / (P * L) * P;
        part.skip += part.inputs;
      } while (part.skip < size);
    }
  }

  template <template <class, int> class Kind>
  static void all_rows(const Columns& columns, const PackedRows& x) {
    int rows = 0;
    for (int64_t row = 0; row < x.rows; row += rows) {
      rows = row_group_size(x.rows - row);
      if (rows == 3) {
        row_group<Kind, 3>(columns, x, row);
      } else if (rows == 2) {
        row_group<Kind, 2>(columns, x, row);
      } else {
        row_group<Kind, 1>(columns, x, row);
      }
    }
  }

  // Outputs [begin, end), few at a time, as few rows share the weights: those of the next then come from memory
  // meanwhile.
  template <template <class, int> class Kind>
  static void multiply_rows(Columns columns, const PackedRows& x) {
    const int64_t begin = columns.begin, end = columns.end;
    const int64_t together = x.rows == 1 ? kColumnTileOne : kColumnsFew;
    for (int64_t n = begin; n < end; n += together) {
      columns.begin = n;
      columns.end = end - n < together ? end : n + together;
      all_rows<Kind>(columns, x);
      columns.wide += together * columns.wide_stride;
    }
  }

  // --- FP8: x times the scale takes the place of x, for the outputs under one row of scales.

  // FP8 rows [begin, end) as bf16, once for all rows of x.
  static void widen(const Product& product, int64_t begin, int64_t end, char* to) {
    for (int64_t n = begin; n < end; ++n) {
      const char* row = static_cast<const char*>(product.weight) + n * product.weight_stride;
      for (int s = 0; s < product.slices.count; ++s) {
        const char* from = row + product.slices.begin[s];
        int64_t left = product.slices.size(s);
        for (; left >= 4 * L; left -= 4 * L, from += 4 * L, to += 8 * L) widen_group(from, to);
        if (left == 0) continue;
        char rest[4 * L] = {};
        std::memcpy(rest, from, static_cast<size_t>(left));
        widen_group(rest, to);
        to += 8 * L;
      }
    }
  }
  static HYLAS_INLINE void widen_group(const char* from, char* to) {
    typename V::I words = V::load_int(from);
    V::store_int(to, e4m3_as_bf16<V, 0>(words));
    V::store_int(to + 4 * L, e4m3_as_bf16<V, 1>(words));
  }

  // to = x * scale of each block; `scale`: of the first output.
  static void scale_rows(const Product& product, const PackedRows& x, const float* scale, float* to) {
    constexpr int64_t kSteps = kScaleBlock / L;  // of one row and block
    const float* from = x.data;
    int rows = 0;
    for (int64_t row = 0; row < x.rows; row += rows) {
      rows = row_group_size(x.rows - row);
      for (int s = 0; s < product.slices.count; ++s) {
        const float* block = scale + product.slices.begin[s] / kScaleBlock;
        for (int64_t left = product.slices.steps(s, 4, L); left > 0; left -= kSteps, ++block) {
          const typename V::F factor = V::set(*block);
          const int64_t vectors = (left < kSteps ? left : kSteps) * rows;
          for (int64_t i = 0; i < vectors; ++i, from += L, to += L) V::store(to, V::mul(V::load(from), factor));
        }
      }
    }
  }

  static void multiply_fp8(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
    const int64_t row_values = x.steps * L;
    Columns columns{&product, 0, 0, nullptr, row_values * 2, scratch};
    PackedRows scaled = x;
    scaled.data = scratch + multiply_totals(end - begin, L);
    char* wide = reinterpret_cast<char*>(scaled.data + kRowsFew * row_values);
    for (int64_t n = begin; n < end; n = columns.end) {
      const int64_t next = (n / kScaleBlock + 1) * kScaleBlock;
      columns.begin = n;
      columns.end = next < end ? next : end;
      if (x.rows > kRowsDirect) widen(product, n, columns.end, wide);
      columns.wide = wide;
      scale_rows(product, x, product.scale + n / kScaleBlock * product.scale_stride, scaled.data);
      x.rows > kRowsDirect ? multiply_rows<RowsFp8Wide>(columns, scaled) : multiply_rows<RowsFp8>(columns, scaled);
    }
  }

  static void multiply(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
    if (x.rows > kRowsFew) return ManyRows<V>::multiply(product, x, begin, end, scratch);
    switch (product.format) {
      case WeightFormat::kF32:
        return multiply_rows<RowsF32>({&product, begin, end, nullptr, 0, scratch}, x);
      case WeightFormat::kBF16:
        return multiply_rows<RowsBF16>({&product, begin, end, nullptr, 0, scratch}, x);
      case WeightFormat::kFp8:
        return multiply_fp8(product, x, begin, end, scratch);
    }
  }

  // --- What experts need beside products.

  static HYLAS_INLINE typename V::F rounded(typename V::F x, bool bf16) {
    if (!bf16) return x;
    uint16_t bits[L];
    V::store_bf16(bits, x);
    return V::load_bf16(bits);
  }

  static void silu_mul(const float* gate, const float* up, int64_t count, bool bf16, void* out) {
    for (int64_t i = 0; i < count; i += L) {
      int64_t left = count - i < L ? count - i : L;
      typename V::F g = rounded(left < L ? load_first<V>(gate + i, left) : V::load(gate + i), bf16);
      typename V::F u = rounded(left < L ? load_first<V>(up + i, left) : V::load(up + i), bf16);
      typename V::F h = V::mul(V::div(g, V::add(V::set(1.f), exp<V>(V::sub(V::zero(), g)))), u);
      if (bf16) {
        uint16_t bits[L];
        V::store_bf16(bits, h);
        std::memcpy(static_cast<uint16_t*>(out) + i, bits, static_cast<size_t>(left) * sizeof(uint16_t));
      } else {
        store_first<V>(static_cast<float*>(out) + i, h, left);
      }
    }
  }

  static void add_scaled(const float* y, float weight, int64_t count, float* sum) {
    int64_t i = 0;
    for (; i + L <= count; i += L) {
      V::store(sum + i, V::add(V::load(sum + i), V::mul(V::set(weight), V::load(y + i))));
    }
    if (int64_t left = count - i; left > 0) {
      typename V::F scaled = V::mul(V::set(weight), load_first<V>(y + i, left));
      store_first<V>(sum + i, V::add(load_first<V>(sum + i, left), scaled), left);
    }
  }

  static constexpr GemmKernels kTable = {L, pack, multiply, silu_mul, add_scaled};
};

}  // namespace hylas::cpu
