#pragma once
// The kernels of gemm.h over a vector type V.
#include "ops/cpu/gemm_tile.h"

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

  struct Target {
    const Product* product;
    int slice;
    int64_t output;
    int64_t outputs;  // at most 4 are stored
  };

  static HYLAS_INLINE void put(const Target& target, int64_t row, const float* sums) {
    const Product& product = *target.product;
    int64_t at = target.slice * product.slice_stride + row * product.row_stride + target.output - product.first_output;
    for (int64_t i = 0; i < target.outputs; ++i) {
      if (product.out_bf16) {
        uint32_t bits;
        std::memcpy(&bits, &sums[i], sizeof bits);
        bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        bits = nan ? bits | 0x400000u : bits + 0x7fffu + ((bits >> 16) & 1);
        static_cast<uint16_t*>(product.out)[at + i] = static_cast<uint16_t>(bits >> 16);
      } else {
        static_cast<float*>(product.out)[at + i] = sums[i];
      }
    }
  }

  // Outputs [output, min(output + 4, end)) of one row.
  static HYLAS_INLINE void finish(const Product& product, int slice, int64_t row, int64_t output, int64_t end,
                                  const float* totals) {
    const int64_t outputs = end - output < 4 ? end - output : 4;
    const auto sum4 = [&](float* out) HYLAS_LAMBDA_INLINE {
      V::sum4(V::load(totals), V::load(totals + L), V::load(totals + 2 * L), V::load(totals + 3 * L), out);
    };
    if (outputs == 4 && !product.out_bf16 && product.format != WeightFormat::kFp8) {
      return sum4(static_cast<float*>(product.out) + slice * product.slice_stride + row * product.row_stride + output -
                  product.first_output);
    }
    float sums[4];
    sum4(sums);
    if (product.format == WeightFormat::kFp8) {
      for (float& sum : sums) sum *= kFp8Half;
    }
    put({&product, slice, output, outputs}, row, sums);
  }

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

  template <template <class, int> class Kind, int R>
  static void part_tiles(const Columns& columns, const Part& part, const float* x, int64_t row, int64_t ahead) {
    constexpr int C = R == 1 ? kColumnTileOne : kColumnTile;
    using Rows = Kind<V, C>;
    const Product& product = *columns.product;
    const bool is_last = part.skip + part.inputs == product.slices.size(part.slice);
    for (int64_t n = columns.begin; n < columns.end; n += C) {
      float* totals = columns.totals + (n - columns.begin) * R * L;
      if (part.skip == 0) std::memset(totals, 0, sizeof(float) * R * C * L);
      add_products<V, R, C>(rows_at<C, Rows>(columns, part, n), part.inputs, x, totals, ahead);
      if (!is_last) continue;
      for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C && n + c < columns.end; c += 4) {
          finish(product, part.slice, row + r, n + c, columns.end, totals + (r * C + c) * L);
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
    const int64_t ahead =
        kWide || row + R < x.rows ? 0 : (columns.end - columns.begin) * columns.product->weight_stride;
    const float* group = x.data + row * x.steps * L;
    Part part{0, 0, 0, 0};
    for (; part.slice < columns.product->slices.count; ++part.slice) {
      const int64_t size = columns.product->slices.size(part.slice);
      part.skip = 0;
      do {
        part.inputs = size - part.skip < kInputs ? size - part.skip : kInputs;
        part_tiles<Kind, R>(columns, part, group + part.step * R * L, x.first + row, ahead);
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

  // Outputs [begin, end), few at a time while few rows share the weights: those of the next then come from memory
  // meanwhile.
  template <template <class, int> class Kind>
  static void multiply_rows(Columns columns, const PackedRows& x) {
    const int64_t begin = columns.begin, end = columns.end;
    int64_t together = x.rows == 1 ? kColumnTileOne : x.rows <= kRowsFew ? kColumnsFew : end - begin;
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
    float* scaled = scratch + multiply_totals(end - begin, L);
    char* wide = reinterpret_cast<char*>(scaled + (kRowsFew + 1) * row_values);
    for (int64_t n = begin; n < end; n = columns.end) {
      const int64_t next = (n / kScaleBlock + 1) * kScaleBlock;
      columns.begin = n;
      columns.end = next < end ? next : end;
      if (x.rows > kRowsDirect) widen(product, n, columns.end, wide);
      columns.wide = wide;
      PackedRows part = x;
      for (int64_t row = 0; row < x.rows; row += part.rows) {
        const int64_t left = x.rows - row;
        part.rows = left <= kRowsFew + 1 ? left : kRowsFew;  // whole groups
        part.data = x.data + row * row_values;
        part.first = x.first + row;
        scale_rows(product, part, product.scale + n / kScaleBlock * product.scale_stride, scaled);
        part.data = scaled;
        x.rows > kRowsDirect ? multiply_rows<RowsFp8Wide>(columns, part) : multiply_rows<RowsFp8>(columns, part);
      }
    }
  }

  static void multiply(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
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
