#pragma once
// Products of many rows: four rows of W at a time become a panel of floats in the first-level cache, which a block of
// rows of x, in the second-level cache, passes over. Every sum is taken in the order of gemm_types.h.
#include "ops/cpu/gemm_finish.h"
#include "ops/cpu/gemm_tile.h"

namespace hylas::cpu {

template <class V>
struct ManyRows {
  static constexpr int L = V::kLanes, C = kColumnTile;

  // `inputs` elements of a slice from `skip` on, which are the packed rows' `steps` steps from `step` on.
  struct Part {
    int slice;
    int64_t skip, inputs, step, steps;
  };

  // Rows of x over one part: the group from row r on stands at data + r * stride + R * offset.
  struct Block {
    const float* data;
    int64_t stride, offset;
    int64_t rows;
    int64_t first;  // its row of the product
  };

  struct Memory {
    float* panel;   // [steps][C][L]
    float* scaled;  // rows of a block times a scale
    float* totals;  // of a block between the parts of a slice
  };

  static void multiply(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch) {
    const Memory memory{scratch, scratch + kPartMany * C, scratch + kPartMany * (C + kRowsMany + 1)};
    switch (product.format) {
      case WeightFormat::kF32:
        return multiply_rows<RowsF32<V, C>>(product, x, begin, end, memory);
      case WeightFormat::kBF16:
        return multiply_rows<RowsBF16<V, C>>(product, x, begin, end, memory);
      case WeightFormat::kFp8:
        return multiply_rows<RowsFp8<V, C>>(product, x, begin, end, memory);
    }
  }

 private:
  template <class Rows>
  static void multiply_rows(const Product& product, const PackedRows& x, int64_t begin, int64_t end,
                            const Memory& memory) {
    for (int64_t row = 0, rows; row < x.rows; row += rows) {
      const int64_t left = x.rows - row;
      rows = left <= kRowsMany + 1 ? left : kRowsMany;  // whole groups
      Block block{x.data + row * x.steps * L, x.steps * L, 0, rows, x.first + row};
      Part part{0, 0, 0, 0, 0};
      for (; part.slice < product.slices.count; ++part.slice) {
        const int64_t size = product.slices.size(part.slice);
        const int64_t inputs = part_inputs(size);
        for (part.skip = 0; part.skip == 0 || part.skip < size; part.skip += inputs) {
          part.inputs = size - part.skip < inputs ? size - part.skip : inputs;
          part.steps = (part.inputs + Rows::kPhases * L - 1) / (Rows::kPhases * L) * Rows::kPhases;
          block.offset = part.step * L;
          part_columns<Rows>(product, block, part, begin, end, memory);
          part.step += part.steps;
        }
      }
    }
  }

  // An fp8 weight's scale is that of 128 outputs: x times it takes the place of x.
  template <class Rows>
  static void part_columns(const Product& product, const Block& block, const Part& part, int64_t begin, int64_t end,
                           const Memory& memory) {
    if constexpr (!std::is_same_v<Rows, RowsFp8<V, C>>) {
      for (int64_t n = begin; n < end; n += C) {
        columns<Rows>(product, block, part, n, end, memory.panel, memory.totals + (n - begin) * block.rows * L);
      }
    } else {
      const Block scaled{memory.scaled, part.steps * L, 0, block.rows, block.first};
      for (int64_t n = begin; n < end; n += C) {
        if (n == begin || n % kScaleBlock == 0) scale_block(product, block, part, n, memory.scaled);
        columns<Rows>(product, scaled, part, n, end, memory.panel, memory.totals + (n - begin) * block.rows * L);
      }
    }
  }

  static void scale_block(const Product& product, const Block& block, const Part& part, int64_t output, float* to) {
    constexpr int64_t kSteps = kScaleBlock / L;
    const float* scale = product.scale + output / kScaleBlock * product.scale_stride +
                         (product.slices.begin[part.slice] + part.skip) / kScaleBlock;
    int rows = 0;
    for (int64_t row = 0; row < block.rows; row += rows) {
      rows = row_group_size(block.rows - row);
      const float* from = block.data + row * block.stride + rows * block.offset;
      for (int64_t step = 0; step < part.steps; step += kSteps) {
        const typename V::F factor = V::set(scale[step / kSteps]);
        const int64_t vectors = (part.steps - step < kSteps ? part.steps - step : kSteps) * rows;
        for (int64_t i = 0; i < vectors; ++i, from += L, to += L) V::store(to, V::mul(V::load(from), factor));
      }
    }
  }

  // Outputs [output, min(output + C, end)) of a part.
  template <class Rows>
  static void columns(const Product& product, const Block& block, const Part& part, int64_t output, int64_t end,
                      float* panel, float* totals) {
    Rows w;  // beyond the last row, that row again
    for (int c = 0; c < C; ++c) {
      const int64_t n = output + c < end ? output + c : end - 1;
      w.row[c] = static_cast<const char*>(product.weight) + n * product.weight_stride +
                 (product.slices.begin[part.slice] + part.skip) * Rows::kElementBytes;
    }
    widen_rows<V, C>(w, part.inputs, panel);
    int rows = 0;
    for (int64_t row = 0; row < block.rows; row += rows) {
      rows = row_group_size(block.rows - row);
      const auto tile = [&]<int R>() HYLAS_LAMBDA_INLINE {
        const float* x = block.data + row * block.stride + R * block.offset;
        multiply_tile<R>(product, part, x, panel, block.first + row, output, end, totals + row * C * L);
      };
      if (rows == 3) {
        tile.template operator()<3>();
      } else if (rows == 2) {
        tile.template operator()<2>();
      } else {
        tile.template operator()<1>();
      }
    }
  }

  template <int R>
  static HYLAS_INLINE void multiply_tile(const Product& product, const Part& part, const float* x, const float* panel,
                                         int64_t row, int64_t output, int64_t end, float* totals) {
    Tile<V, R, C> tile;
    tile.panel(part.skip == 0 ? nullptr : totals, x, panel, part.steps);
    if (part.skip + part.inputs < product.slices.size(part.slice)) return tile.store(totals);
    unrolled<R>([&](auto r) HYLAS_LAMBDA_INLINE {
      finish<V>(product, part.slice, row + r, output, end, tile.sum[r * C], tile.sum[r * C + 1], tile.sum[r * C + 2],
                tile.sum[r * C + 3]);
    });
  }
};

}  // namespace hylas::cpu
