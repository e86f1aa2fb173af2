#include "serve/worker_pool.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/thread.h"

namespace hylas {
namespace {

// A library may throw (memory, mostly). The task's answer is then dropped, which the client sees as a 500.
void run(const std::function<void()>& task) {
  try {
    task();
  } catch (const std::exception& thrown) {
    log::error("a request failed: {}", thrown.what());
  }
}

}  // namespace

WorkerPool::WorkerPool(int threads, size_t tasks_max) : tasks_max_(tasks_max), tasks_(SIZE_MAX) {
  for (int i = 0; i < threads; ++i) {
    threads_.push_back(start_thread(fmt::format("text {}", i), [this] {
      while (auto task = tasks_.pop()) run(*task);
    }));
  }
}

WorkerPool::~WorkerPool() { tasks_.close(); }

}  // namespace hylas
