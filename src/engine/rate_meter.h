#pragma once
// RateMeter: events per second over the last few seconds. Times are the caller's, so it is a plain value.
#include <cstdint>
#include <deque>

namespace hylas {

class RateMeter {
 public:
  static constexpr int64_t kWindowUs = 5'000'000;

  void add(int64_t now_us, uint64_t count) {
    if (count == 0) return;
    events_.push_back({now_us, count});
    total_ += count;
    forget(now_us);
  }
  // Over the window, or since the first event in it when that is later.
  double per_second(int64_t now_us) {
    forget(now_us);
    if (events_.empty()) return 0;
    const int64_t span_us = now_us - events_.front().at_us;
    return span_us <= 0 ? 0 : static_cast<double>(total_) * 1e6 / static_cast<double>(span_us);
  }

 private:
  struct Event {
    int64_t at_us;
    uint64_t count;
  };
  void forget(int64_t now_us) {
    while (!events_.empty() && now_us - events_.front().at_us > kWindowUs) {
      total_ -= events_.front().count;
      events_.pop_front();
    }
  }
  std::deque<Event> events_;
  uint64_t total_ = 0;
};

}  // namespace hylas
