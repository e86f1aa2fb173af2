// When an instance gets no requests for a while, and when it gets them again.
#include "router/circuit_breaker.h"

#include <gtest/gtest.h>

namespace hylas::router {
namespace {

using State = CircuitBreaker::State;

constexpr BreakerOptions kOptions{.failures = 3, .successes = 2, .open_us = 60, .window_us = 100};

void fail(CircuitBreaker& breaker, int times, int64_t at_us) {
  for (int i = 0; i < times; ++i) {
    breaker.sent(at_us);
    breaker.failed(at_us);
  }
}

TEST(CircuitBreaker, OpensAfterFailuresInTheWindow) {
  CircuitBreaker breaker(kOptions);
  fail(breaker, 2, 0);
  EXPECT_TRUE(breaker.allows(0));
  fail(breaker, 1, 150);  // the first two are long ago
  EXPECT_TRUE(breaker.allows(150));
  fail(breaker, 2, 160);
  EXPECT_EQ(breaker.state(160), State::kOpen);
  EXPECT_FALSE(breaker.allows(160));
}

TEST(CircuitBreaker, ASuccessForgivesWhatWasBefore) {
  CircuitBreaker breaker(kOptions);
  fail(breaker, 2, 0);
  breaker.sent(1);
  breaker.succeeded(1);
  fail(breaker, 2, 2);
  EXPECT_EQ(breaker.state(2), State::kClosed);
}

TEST(CircuitBreaker, IsTriedOneAtATimeUntilItWorks) {
  CircuitBreaker breaker(kOptions);
  fail(breaker, 3, 0);
  EXPECT_FALSE(breaker.allows(59));
  EXPECT_EQ(breaker.state(60), State::kHalfOpen);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(breaker.allows(60));
    breaker.sent(60);
    EXPECT_FALSE(breaker.allows(60));
    breaker.succeeded(61);
  }
  EXPECT_EQ(breaker.state(61), State::kClosed);
}

TEST(CircuitBreaker, OneFailureOnTrialOpensItAgain) {
  CircuitBreaker breaker(kOptions);
  fail(breaker, 3, 0);
  breaker.sent(60);
  breaker.failed(70);
  EXPECT_EQ(breaker.state(129), State::kOpen);
  EXPECT_EQ(breaker.state(130), State::kHalfOpen);
}

TEST(CircuitBreaker, ATrialWithoutAResultFreesItsPlace) {
  CircuitBreaker breaker(kOptions);
  fail(breaker, 3, 0);
  breaker.sent(60);
  breaker.unknown();
  EXPECT_TRUE(breaker.allows(60));
}

TEST(CircuitBreaker, AReplacementIsNotBlamedForTheOneBefore) {
  CircuitBreaker breaker(kOptions);
  fail(breaker, 3, 0);
  breaker.reset();
  EXPECT_EQ(breaker.state(1), State::kClosed);
  EXPECT_TRUE(breaker.allows(1));
  fail(breaker, 2, 2);
  EXPECT_EQ(breaker.state(2), State::kClosed) << "failures count from the beginning";
}

TEST(CircuitBreaker, CanBeOff) {
  CircuitBreaker breaker({.enabled = false, .failures = 1});
  fail(breaker, 5, 0);
  EXPECT_TRUE(breaker.allows(0));
}

}  // namespace
}  // namespace hylas::router
