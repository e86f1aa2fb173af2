#include "base/queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/thread.h"

namespace hylas {
namespace {

TEST(Queue, IsFirstInFirstOut) {
  Queue<int> queue(3);
  for (int i : {1, 2, 3}) EXPECT_TRUE(queue.push(i));
  EXPECT_EQ(queue.size(), 3u);
  for (int i : {1, 2, 3}) EXPECT_EQ(queue.pop(), i);
}

TEST(Queue, TryPushLeavesTheItemWithTheCallerWhenFull) {
  Queue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(queue.try_push(second));
  ASSERT_TRUE(second);
  queue.pop();
  EXPECT_TRUE(queue.try_push(second));
  EXPECT_FALSE(second);
}

TEST(Queue, PopForGivesUpAfterItsTime) {
  Queue<int> queue(1);
  EXPECT_EQ(queue.pop_for(0), std::nullopt);
  int64_t started_us = now_us();
  EXPECT_EQ(queue.pop_for(20'000), std::nullopt);
  EXPECT_GE(now_us() - started_us, 20'000);
  queue.push(5);
  EXPECT_EQ(queue.pop_for(0), 5);
}

TEST(Queue, CloseRefusesNewItemsAndGivesOutTheOldOnes) {
  Queue<int> queue(2);
  queue.push(1);
  EXPECT_FALSE(queue.drained());
  queue.close();
  EXPECT_FALSE(queue.push(2));
  EXPECT_FALSE(queue.try_push(3));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_TRUE(queue.drained());
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(Queue, CloseWakesWhoeverWaits) {
  Queue<int> full(1), empty(1);
  full.push(1);
  std::atomic<int> woken = 0;
  {
    auto pusher = start_thread("pusher", [&] { woken += full.push(2) ? 0 : 1; });
    auto popper = start_thread("popper", [&] { woken += empty.pop() ? 0 : 1; });
    full.close();
    empty.close();
  }
  EXPECT_EQ(woken, 2);
}

TEST(Queue, EveryItemArrivesOnceWhateverTheNumberOfThreads) {
  constexpr int kItems = 2000, kThreads = 4;
  Queue<int> queue(8);
  std::vector<std::atomic<int>> seen(kItems * kThreads);
  {
    std::vector<std::jthread> consumers;
    for (int c = 0; c < kThreads; ++c) {
      consumers.push_back(start_thread("consumer", [&] {
        while (auto item = queue.pop()) ++seen[size_t(*item)];
      }));
    }
    {
      std::vector<std::jthread> producers;
      for (int p = 0; p < kThreads; ++p) {
        producers.push_back(start_thread("producer", [&queue, p] {
          for (int i = 0; i < kItems; ++i) queue.push(p * kItems + i);
        }));
      }
    }
    queue.close();
  }
  for (auto& count : seen) EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace hylas
