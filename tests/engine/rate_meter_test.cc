#include "engine/rate_meter.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

constexpr int64_t kSecond = 1'000'000;

TEST(RateMeter, CountsPerSecondSinceTheFirstEvent) {
  RateMeter meter;
  EXPECT_EQ(meter.per_second(0), 0);
  meter.add(10 * kSecond, 50);
  meter.add(11 * kSecond, 50);
  EXPECT_DOUBLE_EQ(meter.per_second(12 * kSecond), 50);
}

TEST(RateMeter, ForgetsWhatIsOlderThanTheWindow) {
  RateMeter meter;
  meter.add(0, 1000);
  meter.add(4 * kSecond, 8);
  EXPECT_DOUBLE_EQ(meter.per_second(8 * kSecond), 2);
  EXPECT_EQ(meter.per_second(60 * kSecond), 0);
}

}  // namespace
}  // namespace hylas
