#include "base/clock.h"

#include <gtest/gtest.h>

#include <ctime>
#include <thread>

namespace hylas {
namespace {

TEST(Clock, NowRunsInMicroseconds) {
  int64_t before = now_us();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  int64_t passed = now_us() - before;
  EXPECT_GE(passed, 5'000);
  EXPECT_LT(passed, 5'000'000);
}

TEST(Clock, WallClockIsUnixTime) { EXPECT_NEAR(double(wall_clock_us()) / 1e6, double(std::time(nullptr)), 2.0); }

}  // namespace
}  // namespace hylas
