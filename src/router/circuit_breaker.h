#pragma once
// A circuit breaker: after several failures an instance gets no requests for a while, then one at a time until it has
// shown that it works. A value; pure, times are base/clock.h's.
#include <cstdint>
#include <deque>

namespace hylas::router {

struct BreakerOptions {
  bool enabled = true;
  int failures = 10;  // within window_us, without a success in between
  int successes = 3;  // on trial, until it is closed again
  int64_t open_us = 60'000'000;
  int64_t window_us = 120'000'000;
};

class CircuitBreaker {
 public:
  enum class State { kClosed, kOpen, kHalfOpen };

  explicit CircuitBreaker(BreakerOptions options) : options_(options) {}

  State state(int64_t now_us) const;
  // Whether a request may be sent now.
  bool allows(int64_t now_us) const;
  // A request was sent. Exactly one of the three follows.
  void sent(int64_t now_us);
  void succeeded(int64_t now_us);
  void failed(int64_t now_us);
  void unknown();  // the request ended for another reason
  // The instance was away and is back: another process, which nothing speaks against.
  void reset();

 private:
  void end_trial();

  BreakerOptions options_;
  std::deque<int64_t> failures_us_;
  int64_t opened_us_ = 0;
  bool open_ = false;
  int trial_successes_ = 0;
  int on_trial_ = 0;
};

}  // namespace hylas::router
