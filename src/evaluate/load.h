#pragma once
// Sends requests when they are due, a thread for each one under way.
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "evaluate/target.h"
#include "evaluate/timing.h"

namespace hylas {

inline constexpr int32_t kInFlightMax = 4096;  // threads, and connections

struct Load {
  std::vector<RequestTiming> requests;  // in the order of the tasks
  double duration_s = 0;                // from the start to the end of the last request
};

// Waits for the whole answer; called by several threads at a time.
using Send = std::function<RequestTiming(const Task&)>;

// Task i goes out at due_s[i] (ascending) or, if `in_flight_max` are under way then, when one of them has ended.
// `on_done` is called after each, by the thread that sent it.
Load run_load(std::span<const Task> tasks, std::span<const double> due_s, int32_t in_flight_max, const Send& send,
              const std::function<void()>& on_done);

}  // namespace hylas
