#include "evaluate/load.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "base/thread.h"

namespace hylas {

Load run_load(std::span<const Task> tasks, std::span<const double> due_s, int32_t in_flight_max, const Send& send,
              const std::function<void()>& on_done) {
  HYLAS_CHECK(due_s.size() == tasks.size() && in_flight_max > 0);
  Load load;
  load.requests.resize(tasks.size());
  std::atomic<size_t> next{0};
  int64_t started_us = now_us();
  auto work = [&] {
    for (size_t i; (i = next++) < tasks.size();) {
      int64_t early_us = started_us + int64_t(due_s[i] * 1e6) - now_us();
      if (early_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(early_us));
      load.requests[i] = send(tasks[i]);
      on_done();
    }
  };
  {
    std::vector<std::jthread> threads;
    size_t wanted = std::min(size_t(in_flight_max), tasks.size());
    for (size_t i = 0; i < wanted; ++i) threads.push_back(start_thread("load", work));
  }
  load.duration_s = double(now_us() - started_us) * 1e-6;
  return load;
}

}  // namespace hylas
