#include "ops/prefill_parts.h"

#include <gtest/gtest.h>

namespace hylas::test {
namespace {

// Parts are whole for whoever cuts them: the delta rule's tiles, the scales' units, products of many rows.
TEST(PrefillParts, PartsOfAPromptAloneAreLargeAndWhole) {
  for (const int32_t decode_rows : {0, 1, 2, 3, 63, 255}) {
    for (int32_t prefill = 1; prefill < 5000; ++prefill) {
      const int32_t tokens = decode_rows + prefill;
      const PrefillParts parts = prefill_parts(tokens, decode_rows + 1, decode_rows, 32, 132);
      ASSERT_EQ(parts.beside, prefill >= kPartRowsMin);
      ASSERT_EQ(parts.count, prefill < 1152 ? 1 : prefill < 2304 ? 2 : 3);
      ASSERT_EQ(parts.cut[0], 0);
      ASSERT_EQ(parts.rows[0], 0);
      ASSERT_EQ(parts.cut[parts.count], prefill);
      ASSERT_EQ(parts.rows[parts.count], tokens);
      for (int i = 1; i < parts.count; ++i) {
        ASSERT_EQ(parts.cut[i] % 64, 0);
        ASSERT_EQ(parts.rows[i] % 4, 0);
        ASSERT_LE(parts.rows[i], decode_rows + parts.cut[i]);
        ASSERT_GT(parts.rows[i], decode_rows + parts.cut[i] - 4);
        ASSERT_GT(parts.cut[i], parts.cut[i - 1]);
      }
      for (int i = 0; i < parts.count && parts.count > 1; ++i) {
        ASSERT_GE(parts.rows[i + 1] - parts.rows[i], kPartRowsMin) << prefill << " tokens, part " << i;
      }
    }
  }
}

TEST(PrefillParts, NothingRunsBesideARuleThatFillsTheGpu) {
  EXPECT_TRUE(prefill_parts(4000, 2, 0, 32, 132).beside);
  EXPECT_EQ(prefill_parts(4000, 2, 0, 32, 132).count, 1);
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
