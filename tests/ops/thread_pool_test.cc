#include "ops/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

namespace hylas::cpu {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST_P(ThreadPoolTest, RangesCoverEveryIndexOnceAndBeginAtWholeGrains) {
  ThreadPool pool(GetParam());
  for (int64_t count : {0, 1, 2, 7, 64, 1000}) {
    for (int64_t grain : {1, 3, 64, 5000}) {
      std::vector<int> visits(static_cast<size_t>(count));
      pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread) {
        EXPECT_EQ(begin % grain, 0);
        EXPECT_TRUE(end % grain == 0 || end == count);
        EXPECT_TRUE(thread >= 0 && thread < pool.size());
        for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
      });
      EXPECT_EQ(visits, std::vector<int>(static_cast<size_t>(count), 1)) << count << " by " << grain;
    }
  }
}

TEST_P(ThreadPoolTest, ItemsAreHandedOutOnceEach) {
  ThreadPool pool(GetParam());
  for (int64_t count : {0, 1, 2, 5, 1000}) {
    std::vector<int> visits(static_cast<size_t>(count));
    pool.parallel_items(count, [&](int64_t item, int thread) {
      EXPECT_TRUE(thread >= 0 && thread < pool.size());
      ++visits[static_cast<size_t>(item)];
    });
    EXPECT_EQ(visits, std::vector<int>(static_cast<size_t>(count), 1)) << count;
  }
}

TEST_P(ThreadPoolTest, WhatWorkersWroteIsSeenByTheNextTaskAndByTheCaller) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> values(256);
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    // The other way round every second time, so that threads read what others wrote.
    pool.parallel_for(256, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ++values[static_cast<size_t>(round % 2 ? 255 - i : i)];
    });
  }
  EXPECT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), 256 * kRounds);
}

TEST_P(ThreadPoolTest, WorkersThatWentToSleepWakeAgain) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int64_t> sum = 0;
    pool.parallel_for(64, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    EXPECT_EQ(sum, 64);
  }
}

TEST(ThreadPool, TheCallerWaitsForASlowWorker) {
  ThreadPool pool(2);
  std::atomic<int> done = 0;
  pool.parallel_for(2, 1, [&](int64_t begin, int64_t, int) {
    if (begin == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++done;
  });
  EXPECT_EQ(done, 2);
}

}  // namespace
}  // namespace hylas::cpu
