#pragma once
// ActRows: activations on their way from the operator that makes them to the products that read them.
#include <concepts>

#include "ops/weight.h"
#include "tensor/arena.h"

namespace hylas {

// What readers of rows read of them.
enum class RowForm { kValues = 1, kFp8 = 2, kBoth = 3 };
constexpr RowForm operator|(RowForm a, RowForm b) {
  return static_cast<RowForm>(static_cast<int>(a) | static_cast<int>(b));
}

// Rows as values and, where `form` asks for it, as products on FP8 tensor cores read them: each block of 128 values
// over its scale, which is their largest magnitude / 448. Values that no reader wants may be left as they are.
struct ActRows {
  Tensor values;  // [T, ...] act, K values a row
  Tensor fp8;     // [T, K] e4m3
  Tensor scales;  // [K / 128, S] f32: column t is row t's. S: T, rounded up to 4
  RowForm form = RowForm::kValues;

  ActRows() = default;
  // Values alone.
  template <std::convertible_to<const Tensor&> T>
  ActRows(const T& alone) : values(alone) {}

  bool has_values() const { return form != RowForm::kFp8; }
  bool has_fp8() const { return form != RowForm::kValues; }
  // The same memory in another form; without room for e4m3 it stays values.
  ActRows in(RowForm wanted) const {
    ActRows rows = *this;
    rows.form = fp8 ? wanted : RowForm::kValues;
    return rows;
  }
  // Rows [begin, begin + count), with begin a multiple of 4: the scales are copied in units of 16 bytes.
  ActRows rows(int64_t begin, int64_t count) const {
    ActRows part = *this;
    part.values = values.rows(begin, count);
    if (!fp8) return part;
    HYLAS_CHECK(begin % 4 == 0, "scales from row {} on", begin);
    part.fp8 = fp8.rows(begin, count);
    part.scales = scales.columns(begin, (count + 3) / 4 * 4);
    return part;
  }
  // Rows from anywhere on: between multiples of 4 values alone.
  ActRows rows_or_values(int64_t begin, int64_t count) const {
    if (begin % 4 == 0) return rows(begin, count);
    HYLAS_CHECK(has_values(), "rows in e4m3 alone from {} on", begin);
    return values.rows(begin, count);
  }
  ActRows reshaped(std::initializer_list<int64_t> dims) const {
    ActRows other = *this;
    other.values = values.reshaped(dims);
    return other;
  }
};

// Room for rows of `width` values, a multiple of 128, in e4m3 alone.
inline ActRows allocate_fp8_rows(Arena& arena, DType act, int64_t rows, int64_t width) {
  ActRows room(Tensor(nullptr, act, {rows, width}));
  room.fp8 = arena.allocate(DType::kF8E4M3, {rows, width});
  room.scales = arena.allocate(DType::kF32, {width / kFp8Block, (rows + 3) / 4 * 4});
  room.form = RowForm::kFp8;
  return room;
}

// In every form, where there is one.
inline ActRows allocate_rows(Arena& arena, DType act, int64_t rows, int64_t width) {
  const Tensor values = arena.allocate(act, {rows, width});
  if (width % kFp8Block != 0) return values;
  ActRows room = allocate_fp8_rows(arena, act, rows, width);
  room.values = values;
  return room.in(RowForm::kValues);
}

}  // namespace hylas
