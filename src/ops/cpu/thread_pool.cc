#include "ops/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/thread.h"

namespace hylas::cpu {
namespace {

// Long enough to bridge the gap between two operators, short enough not to steal a core that others want.
constexpr auto kSpin = std::chrono::microseconds(20);
constexpr int kPausesPerClockRead = 16;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once `value` differs from `old`: spins for kSpin, then sleeps.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  auto begin = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() - begin < kSpin);
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

// The fields of a task are written before `generation` is raised and read after it was seen raised. `running` goes to
// zero when every worker is done with them.
struct ThreadPool::Shared {
  alignas(64) std::atomic<uint32_t> generation{0};
  Task task = nullptr;  // null: end
  void* context = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
  alignas(64) std::atomic<uint32_t> running{0};

  void run_share(int thread, int threads) const {
    int64_t grains = (count + grain - 1) / grain;
    int64_t begin = std::min(grains * thread / threads * grain, count);
    int64_t end = std::min(grains * (thread + 1) / threads * grain, count);
    if (begin < end) task(context, begin, end, thread);
  }
  void publish(Task next, void* next_context, int64_t next_count, int64_t next_grain, int workers) {
    task = next;
    context = next_context;
    count = next_count;
    grain = next_grain;
    running.store(static_cast<uint32_t>(workers), std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads), shared_(std::make_unique<Shared>()) {
  HYLAS_CHECK(threads >= 1, "a pool of {} threads", threads);
  for (int thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { worker(thread); });
  }
}

ThreadPool::~ThreadPool() {
  shared_->publish(nullptr, nullptr, 0, 1, threads_ - 1);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::worker(int thread) {
  set_thread_name("cpu-" + std::to_string(thread));
  for (uint32_t seen = 0;; ++seen) {
    wait_while(shared_->generation, seen);
    if (shared_->task == nullptr) return;
    shared_->run_share(thread, threads_);
    if (shared_->running.fetch_sub(1, std::memory_order_acq_rel) == 1) shared_->running.notify_one();
  }
}

void ThreadPool::run(int64_t count, int64_t grain, Task task, void* context) {
  if (count <= 0) return;
  if (threads_ == 1 || count <= grain) return task(context, 0, count, 0);
  shared_->publish(task, context, count, grain, threads_ - 1);
  shared_->run_share(0, threads_);
  for (uint32_t left; (left = shared_->running.load(std::memory_order_acquire)) != 0;) {
    wait_while(shared_->running, left);
  }
}

}  // namespace hylas::cpu
