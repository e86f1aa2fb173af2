#include "ops/act_rows.h"

#include <gtest/gtest.h>

#include <vector>

namespace hylas {
namespace {

// Room for them is counted as room for values.
TEST(ActRows, InE4m3AloneTakeNoMoreThanValues) {
  for (const int64_t width : {128, 384, 2048, 4096}) {
    for (const int64_t rows : {0, 1, 2, 3, 4, 5, 63, 64, 1000, 16384}) {
      Arena fp8 = Arena::counting(), values = Arena::counting();
      const ActRows room = allocate_fp8_rows(fp8, DType::kBF16, rows, width);
      values.allocate(DType::kBF16, {rows, width});
      EXPECT_LE(fp8.bytes_peak(), values.bytes_peak()) << rows << " rows of " << width;
      EXPECT_FALSE(room.has_values());
      EXPECT_EQ(room.values.dim(0), rows);
    }
  }
}

TEST(ActRows, BetweenMultiplesOfFourAreValuesAlone) {
  std::vector<std::byte> memory(1 << 16);
  Arena arena(memory.data(), memory.size());
  const ActRows rows = allocate_rows(arena, DType::kBF16, 10, 256).in(RowForm::kBoth);
  const ActRows from4 = rows.rows_or_values(4, 5), from5 = rows.rows_or_values(5, 5);
  EXPECT_EQ(from4.form, RowForm::kBoth);
  EXPECT_EQ(from4.fp8.data, rows.fp8.rows(4, 5).data);
  EXPECT_EQ(from4.scales.data, rows.scales.as<float>() + 4);
  EXPECT_EQ(from5.form, RowForm::kValues);
  EXPECT_EQ(from5.values.data, rows.values.rows(5, 5).data);
}

}  // namespace
}  // namespace hylas
