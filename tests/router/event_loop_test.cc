// One thread for all that a router decides by.
#include "router/event_loop.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <vector>

#include "base/clock.h"

namespace hylas::router {
namespace {

TEST(EventLoop, RunsInOrderAndWhenDue) {
  EventLoop loop;
  std::vector<int> ran;
  std::promise<void> last;
  int64_t started_us = now_us();
  loop.after(60'000, [&] {
    ran.push_back(3);
    last.set_value();
  });
  loop.after(30'000, [&] { ran.push_back(2); });
  for (int i = 0; i < 2; ++i) loop.post([&, i] { ran.push_back(i); });
  last.get_future().get();
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_GE(now_us() - started_us, 60'000);
}

TEST(EventLoop, ATaskMayPostAndThrow) {
  EventLoop loop;
  std::promise<void> done;
  loop.post([&] {
    loop.post([&] { done.set_value(); });
    throw std::bad_alloc();
  });
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(EventLoop, StoppingDropsWhatWaits) {
  auto held = std::make_shared<int>(1);
  bool ran = false;
  {
    EventLoop loop;
    loop.after(60'000'000, [held, &ran] { ran = true; });
    loop.stop();
    EXPECT_EQ(held.use_count(), 1);
    loop.post([&ran] { ran = true; });
  }
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace hylas::router
