#pragma once
// One thread that runs what others post to it, in order, now or later: the owner of all that a router decides by.
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace hylas::router {

// All members are thread-safe. The destructor waits for the task that runs and drops the others.
class EventLoop {
 public:
  using Task = std::function<void()>;

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;

  // Tasks must not block. After stop() they are dropped.
  void post(Task task) { after(0, std::move(task)); }
  void after(int64_t wait_us, Task task);
  // Nothing runs any more once it returns. Not from a task.
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<int64_t, Task> tasks_;  // by the time when they are due; guarded by mutex_
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace hylas::router
