#include "router/event_loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

namespace hylas::router {

EventLoop::EventLoop() : thread_(start_thread("router", [this] { run(); })) {}

EventLoop::~EventLoop() { stop(); }

void EventLoop::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  std::multimap<int64_t, Task> dropped;
  {
    std::lock_guard lock(mutex_);
    dropped.swap(tasks_);
  }
  dropped.clear();  // without the lock: what they hold may post
}

void EventLoop::after(int64_t wait_us, Task task) {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  // 0 is before everything that has a time, and equal keys keep their order.
  tasks_.emplace(wait_us <= 0 ? 0 : now_us() + wait_us, std::move(task));
  changed_.notify_all();
}

void EventLoop::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (tasks_.empty()) {
      changed_.wait(lock);
      continue;
    }
    int64_t wait_us = tasks_.begin()->first - now_us();
    if (wait_us > 0) {
      changed_.wait_for(lock, std::chrono::microseconds(wait_us));
      continue;
    }
    auto due = tasks_.extract(tasks_.begin());
    lock.unlock();
    try {
      due.mapped()();
    } catch (const std::exception& thrown) {  // memory, mostly
      log::error("the router failed at a task: {}", thrown.what());
    }
    due = {};
    lock.lock();
  }
}

}  // namespace hylas::router
