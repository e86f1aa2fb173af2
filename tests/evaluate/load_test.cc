#include "evaluate/load.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/clock.h"

namespace hylas {
namespace {

std::vector<Task> numbered_tasks(int32_t count) {
  std::vector<Task> tasks;
  for (int32_t i = 0; i < count; ++i) tasks.push_back({.prompt = std::string("p"), .output_tokens_max = i});
  return tasks;
}

void pause_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(Load, SendsEachTaskOnceAndKeepsTheirOrder) {
  auto tasks = numbered_tasks(50);
  std::vector<double> due_s(50, 0.0);
  std::atomic<int> done{0};
  auto send = [](const Task& task) { return RequestTiming{.output_tokens = task.output_tokens_max}; };
  Load load = run_load(tasks, due_s, 8, send, [&] { ++done; });
  EXPECT_EQ(done, 50);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(load.requests[size_t(i)].output_tokens, i);
}

TEST(Load, NeverHasMoreUnderWayThanAllowed) {
  auto tasks = numbered_tasks(30);
  std::vector<double> due_s(30, 0.0);
  std::atomic<int> under_way{0}, most{0};
  auto send = [&](const Task&) {
    int now = ++under_way;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    pause_ms(2);
    --under_way;
    return RequestTiming{};
  };
  run_load(tasks, due_s, 3, send, [] {});
  EXPECT_LE(most, 3);
}

TEST(Load, SendsNothingBeforeItIsDue) {
  auto tasks = numbered_tasks(4);
  std::vector<double> due_s = {0, 0.02, 0.04, 0.06};
  int64_t started_us = now_us();
  auto send = [](const Task&) { return RequestTiming{.sent_us = now_us()}; };
  Load load = run_load(tasks, due_s, 64, send, [] {});
  for (size_t i = 0; i < 4; ++i) EXPECT_GE(load.requests[i].sent_us - started_us, int64_t(due_s[i] * 1e6)) << i;
  EXPECT_GE(load.duration_s, 0.06);
}

}  // namespace
}  // namespace hylas
