#pragma once
// A bounded first-in, first-out queue between threads: any number push, any number pop. All members are thread-safe.
// Closing it is how a consumer learns to stop: what was pushed before is still popped, then pop answers nullopt.
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"

namespace hylas {

template <class T>
class Queue {
 public:
  // At most `items_max` wait at a time (at least 1).
  explicit Queue(size_t items_max) : items_max_(items_max) { HYLAS_CHECK(items_max > 0); }
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Waits for room. False, and `item` is dropped, if the queue is closed or gets closed meanwhile.
  bool push(T item) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || items_.size() < items_max_; });
    return append(std::move(lock), item);
  }

  // Never waits. False if the queue is full or closed: then `item` still holds its value.
  bool try_push(T& item) {
    std::unique_lock lock(mutex_);
    if (items_.size() >= items_max_) return false;
    return append(std::move(lock), item);
  }
  bool try_push(T&& item) { return try_push(item); }

  // Waits for an item; nullopt once the queue is closed and empty.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return closed_ || !items_.empty(); });
    return take(std::move(lock));
  }

  // As pop, but waits at most `wait_us`; 0 does not wait. nullopt says "nothing came" or "closed and empty": see
  // drained().
  std::optional<T> pop_for(int64_t wait_us) {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, std::chrono::microseconds(wait_us), [&] { return closed_ || !items_.empty(); });
    return take(std::move(lock));
  }

  // No push succeeds any more, and everybody who waits wakes up. May be called again.
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    arrived_.notify_all();
    room_.notify_all();
  }

  // Closed, and nothing is left to pop.
  bool drained() const {
    std::lock_guard lock(mutex_);
    return closed_ && items_.empty();
  }

  size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  bool append(std::unique_lock<std::mutex> lock, T& item) {
    if (closed_) return false;
    items_.push_back(std::move(item));
    lock.unlock();
    arrived_.notify_one();
    return true;
  }

  std::optional<T> take(std::unique_lock<std::mutex> lock) {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    lock.unlock();
    room_.notify_one();
    return item;
  }

  const size_t items_max_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;  // an item came, or the queue was closed
  std::condition_variable room_;     // an item went, or the queue was closed
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace hylas
