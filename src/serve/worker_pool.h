#pragma once
// The text workers: threads that tokenize, render templates, parse and write JSON.
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "base/queue.h"

namespace hylas {

// Thread-safe. The destructor runs what is queued, then joins.
class WorkerPool {
 public:
  WorkerPool(int threads, size_t tasks_max);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;

  // Never wait. try_post is for work from outside: false if `tasks_max` wait already. post is for what follows from it.
  bool try_post(std::function<void()> task) { return tasks_.size() < tasks_max_ && tasks_.try_push(std::move(task)); }
  void post(std::function<void()> task) { tasks_.try_push(std::move(task)); }
  int threads() const { return int(threads_.size()); }

 private:
  const size_t tasks_max_;
  Queue<std::function<void()>> tasks_;
  std::vector<std::jthread> threads_;
};

}  // namespace hylas
