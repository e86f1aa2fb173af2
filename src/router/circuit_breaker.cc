#include "router/circuit_breaker.h"

namespace hylas::router {

CircuitBreaker::State CircuitBreaker::state(int64_t now_us) const {
  if (!open_) return State::kClosed;
  return now_us - opened_us_ < options_.open_us ? State::kOpen : State::kHalfOpen;
}

bool CircuitBreaker::allows(int64_t now_us) const {
  if (!options_.enabled) return true;
  State now = state(now_us);
  return now == State::kClosed || (now == State::kHalfOpen && on_trial_ == 0);
}

void CircuitBreaker::sent(int64_t now_us) {
  if (state(now_us) == State::kHalfOpen) ++on_trial_;
}

void CircuitBreaker::end_trial() {
  if (on_trial_ > 0) --on_trial_;
}

void CircuitBreaker::succeeded(int64_t now_us) {
  end_trial();
  failures_us_.clear();
  if (state(now_us) != State::kHalfOpen || ++trial_successes_ < options_.successes) return;
  open_ = false;
  trial_successes_ = 0;
}

void CircuitBreaker::failed(int64_t now_us) {
  end_trial();
  if (!options_.enabled) return;
  State now = state(now_us);
  if (now == State::kOpen) return;  // of a request sent before it opened
  failures_us_.push_back(now_us);
  while (failures_us_.front() < now_us - options_.window_us) failures_us_.pop_front();
  if (now == State::kClosed && int(failures_us_.size()) < options_.failures) return;
  open_ = true;
  opened_us_ = now_us;
  trial_successes_ = 0;
  failures_us_.clear();
}

void CircuitBreaker::unknown() { end_trial(); }

void CircuitBreaker::reset() {
  open_ = false;
  trial_successes_ = 0;
  failures_us_.clear();
}

}  // namespace hylas::router
