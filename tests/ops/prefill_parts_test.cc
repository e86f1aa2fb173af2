#include "ops/prefill_parts.h"

#include <gtest/gtest.h>

namespace hylas::test {
namespace {

// Both parts are whole for whoever cuts them: the delta rule's tiles, the scales' units, products of many rows.
TEST(PrefillParts, BothPartsOfAPromptAloneAreLargeAndWhole) {
  for (const int32_t decode_rows : {0, 1, 2, 3, 63, 255}) {
    for (int32_t prefill = 1; prefill < 5000; ++prefill) {
      const int32_t tokens = decode_rows + prefill;
      const PrefillParts parts = prefill_parts(tokens, decode_rows + 1, decode_rows, 32, 132);
      ASSERT_EQ(parts.beside, prefill >= kPartRowsMin);
      if (parts.cut == 0) {
        ASSERT_EQ(parts.rows, 0);
        ASSERT_LT(prefill, 1152);
        continue;
      }
      ASSERT_EQ(parts.cut % 64, 0);
      ASSERT_EQ(parts.rows % 4, 0);
      ASSERT_LE(parts.rows, decode_rows + parts.cut);
      ASSERT_GE(parts.rows, kPartRowsMin);
      ASSERT_GE(tokens - parts.rows, kPartRowsMin);
      ASSERT_LT(parts.cut, prefill);
    }
  }
}

TEST(PrefillParts, NothingRunsBesideARuleThatFillsTheGpu) {
  EXPECT_TRUE(prefill_parts(4000, 2, 0, 32, 132).beside);
  EXPECT_EQ(prefill_parts(4000, 2, 0, 32, 132).cut, 0);
  EXPECT_FALSE(prefill_parts(4000, 3, 0, 32, 132).beside);
  EXPECT_TRUE(prefill_parts(4000, 3, 2, 32, 132).beside);
  EXPECT_TRUE(prefill_parts(4000, 1, 0, 64, 132).beside);
  EXPECT_EQ(prefill_parts(4000, 1, 0, 64, 132).free, 68);
  EXPECT_EQ(prefill_parts(4000, 1, 0, 32, 132).free, 100);
  EXPECT_FALSE(prefill_parts(4000, 1, 0, 65, 132).beside);
  EXPECT_FALSE(prefill_parts(600, 600, 600, 32, 132).beside);
  EXPECT_FALSE(prefill_parts(600, 200, 199, 32, 132).beside);
  EXPECT_FALSE(prefill_parts(0, 0, 0, 32, 132).beside);
}

}  // namespace
}  // namespace hylas::test
