#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace hylas {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return error(ErrorCode::kInvalid, "{} is odd", number);
  return number / 2;
}

Result<int> quarter(int number) {
  HYLAS_ASSIGN(int once, half(number));
  HYLAS_ASSIGN(int twice, half(once));
  return twice;
}

Status check_even(int number) {
  HYLAS_TRY(half(number));
  return {};
}

TEST(Result, HoldsAValueOrAnError) {
  EXPECT_EQ(half(8).value(), 4);
  Result<int> odd = half(3);
  ASSERT_FALSE(odd.ok());
  EXPECT_EQ(odd.error().code, ErrorCode::kInvalid);
  EXPECT_EQ(odd.error().message, "3 is odd");
}

TEST(Result, AssignPassesTheFirstErrorOn) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
}

TEST(Result, TryPassesTheErrorOn) {
  EXPECT_TRUE(check_even(2).ok());
  EXPECT_EQ(check_even(5).error().message, "5 is odd");
}

TEST(Result, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> owner(std::make_unique<int>(7));
  std::unique_ptr<int> taken = std::move(owner).value();
  EXPECT_EQ(*taken, 7);
}

TEST(ResultDeathTest, ReadingTheValueOfAnErrorIsABug) { EXPECT_DEATH((void)half(3).value(), "3 is odd"); }

TEST(CheckDeathTest, NamesTheConditionAndTheMessage) {
  int pages = 3;
  HYLAS_CHECK(pages == 3, "never shown");
  EXPECT_DEATH(HYLAS_CHECK(pages == 4, "{} pages", pages), "pages == 4.*3 pages");
}

}  // namespace
}  // namespace hylas
