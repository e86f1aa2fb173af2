#pragma once
// Whether an instance is up, by the answers to its health checks. A value; pure.
#include <algorithm>

namespace hylas::router {

struct HealthThresholds {
  int failures = 3;   // in a row, until it is down
  int successes = 2;  // in a row, until one that was down is up again
};

class Health {
 public:
  explicit Health(HealthThresholds thresholds) : thresholds_(thresholds) {}

  bool up() const { return up_; }
  // Both: true if that changed up().
  bool succeeded() {
    failures_ = 0;
    ++successes_;
    // The first sign of life is enough for one that has not been seen yet.
    if (up_ || successes_ < (seen_ ? thresholds_.successes : 1)) return false;
    return up_ = seen_ = true;
  }
  // `gone`: nobody listens there, so there is nothing to wait for.
  bool failed(bool gone) {
    successes_ = 0;
    failures_ = std::min(failures_ + 1, thresholds_.failures);
    if (!up_ || (!gone && failures_ < thresholds_.failures)) return false;
    up_ = false;
    return true;
  }

 private:
  HealthThresholds thresholds_;
  int failures_ = 0, successes_ = 0;
  bool up_ = false, seen_ = false;
};

}  // namespace hylas::router
