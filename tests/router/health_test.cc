// Whether an instance is up.
#include "router/health.h"

#include <gtest/gtest.h>

namespace hylas::router {
namespace {

TEST(Health, TheFirstSuccessIsEnough) {
  Health health({.failures = 3, .successes = 2});
  EXPECT_FALSE(health.up());
  EXPECT_FALSE(health.failed(false));
  EXPECT_TRUE(health.succeeded());
  EXPECT_FALSE(health.succeeded());
  EXPECT_TRUE(health.up());
}

TEST(Health, FailuresInARowTakeItDown) {
  Health health({.failures = 3, .successes = 2});
  health.succeeded();
  EXPECT_FALSE(health.failed(false));
  EXPECT_FALSE(health.failed(false));
  health.succeeded();
  EXPECT_FALSE(health.failed(false));
  EXPECT_FALSE(health.failed(false));
  EXPECT_TRUE(health.failed(false));
  EXPECT_FALSE(health.up());
}

TEST(Health, OneThatIsGoneIsDownAtOnceAndComesBackSlowly) {
  Health health({.failures = 3, .successes = 2});
  health.succeeded();
  EXPECT_TRUE(health.failed(true));
  EXPECT_FALSE(health.failed(true));
  EXPECT_FALSE(health.succeeded());
  EXPECT_FALSE(health.failed(true));
  EXPECT_FALSE(health.succeeded());
  EXPECT_TRUE(health.succeeded());
}

}  // namespace
}  // namespace hylas::router
