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
  static constexpr int kLine = 64;  // bytes of a cache line
  static constexpr int kGroupsPerLine = kLine / (4 * L);

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
    auto element = [&](int64_t i) {
      if constexpr (bf16) return bf16_value(static_cast<const uint16_t*>(data)[source + i]) * factor;
      return static_cast<const float*>(data)[source + i] * factor;
    };
    int64_t i = 0;
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
    for (int64_t row = begin; row < end; row += kRowTile) {
      int rows = static_cast<int>(end - row < kRowTile ? end - row : kRowTile);
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

  // --- Results.

  struct Target {
    const Product* product;
    int slice;
    int64_t output;
    int64_t outputs;  // 1 to 4 are stored
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

  template <int R>
  static HYLAS_INLINE void finish(const Tile<V, R>& tile, const Target& target, int64_t row) {
    for (int r = 0; r < R; ++r) {
      float sums[kColumnTile];
      const typename V::F* sum = tile.sum + r * kColumnTile;
      V::sum4(sum[0], sum[1], sum[2], sum[3], sums);
      put(target, row + r, sums);
    }
  }

  // --- One or two rows: weights are widened in registers.

  // Rows [output, output + 4) of the weight from the slice's begin on; beyond the last row, that row again.
  template <class Rows>
  static HYLAS_INLINE Rows rows_at(const Product& product, int slice, int64_t output, int64_t outputs, int64_t skip) {
    Rows rows;
    int64_t begin = product.slices.begin[slice] + skip;
    for (int c = 0; c < kColumnTile; ++c) {
      int64_t n = output + (c < outputs ? c : outputs - 1);
      rows.row[c] = static_cast<const char*>(product.weight) + n * product.weight_stride + begin * Rows::kElementBytes;
      if constexpr (Rows::kPhases == 4) {
        rows.scale[c] = product.scale + n / kScaleBlock * product.scale_stride + begin / kScaleBlock;
      }
    }
    return rows;
  }

  // Asks for the next four rows of the weight meanwhile.
  template <class Rows, int R>
  static void direct_tile(const Rows& rows, const Target& target, const float* x, int64_t row) {
    Tile<V, R> tile;
    tile.clear();
    const int64_t ahead = kColumnTile * target.product->weight_stride;
    for_each_group<V>(rows, target.product->slices.size(target.slice),
                      [&](const Rows& w, int64_t g) HYLAS_LAMBDA_INLINE {
                        if (g % kGroupsPerLine == 0) {
                          for (int c = 0; c < kColumnTile; ++c) __builtin_prefetch(w.row[c] + g * (4 * L) + ahead);
                        }
                        tile.group(w, g, x);
                      });
    finish(tile, target, row);
  }

  template <class Rows>
  static void direct(const Product& product, const PackedRows& x, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n += kColumnTile) {
      const float* slice = x.data;
      for (int s = 0; s < product.slices.count; ++s) {
        Target target{&product, s, n, end - n < kColumnTile ? end - n : kColumnTile};
        Rows rows = rows_at<Rows>(product, s, n, target.outputs, 0);
        x.rows == 1 ? direct_tile<Rows, 1>(rows, target, slice, 0) : direct_tile<Rows, 2>(rows, target, slice, 0);
        slice += product.slices.steps(s, Rows::kPhases, L) * x.rows * L;
      }
    }
  }

  // --- Many rows: weights are widened once per panel of kPanelOutputs x kPanelInputs.

  // Part of a slice: `inputs` elements from `skip` on, `steps` steps from `step` of the packed rows on.
  struct Part {
    int slice;
    int64_t skip;
    int64_t inputs;
    int64_t step;
    int64_t steps;
    bool first;
    bool last;
  };

  template <class Rows>
  static void widen(const Product& product, const Part& part, int64_t begin, int64_t end, float* panel) {
    for (int64_t n = begin; n < end; n += kColumnTile) {
      Rows rows = rows_at<Rows>(product, part.slice, n, end - n < kColumnTile ? end - n : kColumnTile, part.skip);
      float* to = panel + (n - begin) * part.steps * L;
      for_each_group<V>(rows, part.inputs, [&](const Rows& w, int64_t g) HYLAS_LAMBDA_INLINE {
        widen_step<0>(w, g, to);
        if constexpr (Rows::kPhases > 1) widen_step<1>(w, g, to);
        if constexpr (Rows::kPhases > 2) {
          widen_step<2>(w, g, to);
          widen_step<3>(w, g, to);
        }
      });
    }
  }
  template <int phase, class Rows>
  static HYLAS_INLINE void widen_step(const Rows& w, int64_t group, float*& to) {
    for (int c = 0; c < kColumnTile; ++c, to += L) V::store(to, w.template at<phase>(c, group));
  }

  // Asks for four rows of the weight, a cache line per call, while others are multiplied: all at once would hold up the
  // loads of those.
  struct Fetch {
    const char* at = nullptr;
    int64_t row_skip = 0;  // bytes from behind a row's part to the next row's
    int64_t lines_per_row = 0;
    int64_t line = 0;
    int64_t left = 0;
    HYLAS_INLINE void next() {
      if (left == 0) return;
      __builtin_prefetch(at);
      at += kLine;
      --left;
      if (++line == lines_per_row) {
        line = 0;
        at += row_skip;
      }
    }
  };
  template <class Rows>
  static HYLAS_INLINE Fetch fetch_rows(const Product& product, const Part& part, int64_t output, int64_t end) {
    if (output >= end) return {};
    Fetch fetch;
    int64_t begin = product.slices.begin[part.slice] + part.skip;
    fetch.at = static_cast<const char*>(product.weight) + output * product.weight_stride + begin * Rows::kElementBytes;
    fetch.lines_per_row = (part.inputs * Rows::kElementBytes + kLine - 1) / kLine;
    fetch.row_skip = product.weight_stride - fetch.lines_per_row * kLine;
    fetch.left = fetch.lines_per_row * (end - output < kColumnTile ? end - output : kColumnTile);
    return fetch;
  }

  // Sums of a slice that is cut into parts wait in `sums` between the parts.
  template <int R>
  static void panel_tile(const Part& part, const float* panel, const float* x, float* sums, const Target& target,
                         int64_t row, Fetch& fetch) {
    Tile<V, R> tile;
    Fetch ahead = fetch;
    part.first ? tile.clear() : tile.load(sums);
    RowsPanel<V> w{panel};
    for (int64_t step = 0; step < part.steps; ++step) {
      ahead.next();
      tile.group(w, step, x);
    }
    fetch = ahead;
    part.last ? finish(tile, target, row) : tile.store(sums);
  }

  static void panel_rows(const Product& product, const PackedRows& x, const Part& part, int64_t begin, int64_t end,
                         const float* panel, float* sums, Fetch fetch) {
    for (int64_t block = 0; block < x.rows; block += kRowBlock) {
      int64_t block_end = x.rows - block < kRowBlock ? x.rows : block + kRowBlock;
      for (int64_t n = begin; n < end; n += kColumnTile) {
        const float* tile = panel + (n - begin) * part.steps * L;
        Target target{&product, part.slice, n, end - n < kColumnTile ? end - n : kColumnTile};
        for (int64_t row = block; row < block_end; row += kRowTile) {
          const float* group = x.data + row * x.steps * L;
          float* saved = sums + (row * kPanelOutputs + (n - begin) * kRowTile) * L;
          if (int64_t left = x.rows - row; left >= 3) {
            panel_tile<3>(part, tile, group + part.step * 3 * L, saved, target, row, fetch);
          } else if (left == 2) {
            panel_tile<2>(part, tile, group + part.step * 2 * L, saved, target, row, fetch);
          } else {
            panel_tile<1>(part, tile, group + part.step * L, saved, target, row, fetch);
          }
        }
      }
    }
  }

  template <class Rows>
  static void panels(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
    constexpr int64_t kGroup = Rows::kPhases * L;
    float* sums = scratch + kPanelOutputs * (kPanelInputs + 4 * L);
    // Rows of x that fit the second-level cache anyway: widen no more than the first-level cache holds.
    const int64_t outputs = x.rows <= kRowBlock ? kColumnTile : kPanelOutputs;
    for (int64_t n = begin; n < end; n += outputs) {
      int64_t n_end = end - n < outputs ? end : n + outputs;
      int64_t step = 0;
      for (int s = 0; s < product.slices.count; ++s) {
        int64_t size = product.slices.size(s);
        for (int64_t skip = 0; skip < size || (skip == 0 && size == 0); skip += kPanelInputs) {
          int64_t inputs = size - skip < kPanelInputs ? size - skip : kPanelInputs;
          int64_t steps = (inputs + kGroup - 1) / kGroup * Rows::kPhases;
          Part part{s, skip, inputs, step, steps, skip == 0, skip + inputs == size};
          widen<Rows>(product, part, n, n_end, scratch);
          panel_rows(product, x, part, n, n_end, scratch, sums, fetch_rows<Rows>(product, part, n_end, end));
          step += steps;
        }
      }
    }
  }

  template <class Rows>
  static void multiply_rows(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
    x.rows <= kRowsDirect ? direct<Rows>(product, x, begin, end) : panels<Rows>(product, x, begin, end, scratch);
  }

  static void multiply(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
    switch (product.format) {
      case WeightFormat::kF32:
        return multiply_rows<RowsF32<V>>(product, x, begin, end, scratch);
      case WeightFormat::kBF16:
        return multiply_rows<RowsBF16<V>>(product, x, begin, end, scratch);
      case WeightFormat::kFp8:
        return multiply_rows<RowsFp8<V>>(product, x, begin, end, scratch);
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
