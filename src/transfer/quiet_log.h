#pragma once
// QuietLog: warnings that strangers can cause, so few of them that they cannot fill the log.
#include <cstdint>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/log.h"

namespace hylas {

// Thread-safe.
class QuietLog {
 public:
  static constexpr int kLinesMax = 10;  // in kWindowUs
  static constexpr int64_t kWindowUs = 10'000'000;

  // Whether the line was written; the first one after a flood says how many were not.
  bool warn(const std::string& text) {
    std::lock_guard lock(mutex_);
    if (now_us() - begin_us_ > kWindowUs) {
      begin_us_ = now_us();
      lines_ = 0;
    }
    if (lines_ >= kLinesMax) return ++left_out_, false;
    ++lines_;
    if (left_out_ > 0) log::warn("{} more lines like the next one were left out", left_out_);
    left_out_ = 0;
    log::warn("{}", text);
    return true;
  }

 private:
  std::mutex mutex_;
  int64_t begin_us_ = INT64_MIN / 2;
  int lines_ = 0;
  int64_t left_out_ = 0;
};

}  // namespace hylas
