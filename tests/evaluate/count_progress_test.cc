#include "evaluate/count_progress.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

TEST(CountProgress, SaysCountRateAndRest) {
  EXPECT_EQ(count_line("Questions", 50, 200, 5'000'000, 8), "Questions 50/200 [==>     ] 10.0/s  ETA 15 s");
  EXPECT_EQ(count_line("Questions", 50, 200, 5'000'000, 0), "Questions 50/200 10.0/s  ETA 15 s");
}

TEST(CountProgress, SaysNoRateBeforeTheFirst) { EXPECT_EQ(count_line("Requests", 0, 8, 9, 4), "Requests 0/8 [>   ]"); }

TEST(CountProgress, SaysNoRestAtTheEnd) {
  EXPECT_EQ(count_line("Requests", 8, 8, 2'000'000, 4), "Requests 8/8 [====] 4.0/s");
}

}  // namespace
}  // namespace hylas
