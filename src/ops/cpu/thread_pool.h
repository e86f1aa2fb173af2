#pragma once
// ThreadPool: the worker threads of one CPU rank. The caller works too, so one thread means no hand-over at all.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace hylas::cpu {

// One caller at a time. Workers spin shortly for the next task, then sleep on a futex.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  // body(begin, end, thread) over a static split of [0, count) into contiguous ranges of whole `grain`s; returns when
  // all are done. Which thread does what never changes a result: it is a rule of the operators.
  template <class Body>
  void parallel_for(int64_t count, int64_t grain, Body&& body) {
    run(
        count, grain,
        [](void* context, int64_t begin, int64_t end, int thread) {
          (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // body(item, thread), items handed out one by one: for work of uneven size (experts, sequences).
  template <class Body>
  void parallel_items(int64_t count, Body&& body) {
    std::atomic<int64_t> next{0};
    parallel_for(std::min<int64_t>(size(), count), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t thread = begin; thread < end; ++thread) {
        for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
          body(item, static_cast<int>(thread));
        }
      }
    });
  }

 private:
  using Task = void (*)(void* context, int64_t begin, int64_t end, int thread);
  void run(int64_t count, int64_t grain, Task task, void* context);
  void worker(int thread);

  struct Shared;
  int threads_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::thread> workers_;
};

}  // namespace hylas::cpu
