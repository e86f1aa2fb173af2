#pragma once
// HeldLink: a link whose puts wait until a test lets them end.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "transfer/link.h"

namespace hylas::test {

class HeldLink final : public Link {
 public:
  Status open(std::span<const Region>) override { return {}; }
  Result<std::string> invite() override { return std::string(); }
  bool revoke(const std::string&) override { return true; }
  Result<int32_t> connect(const std::string&) override { return 0; }
  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    std::unique_lock lock(mutex_);
    ++puts_;
    if (gone_.empty()) {
      held_.push_back({peer, std::move(writes), std::move(done)});
      changed_.notify_all();
      return;
    }
    lock.unlock();
    done({.status = error(ErrorCode::kIo, "{}", gone_)});
  }
  // Every put fails, those that are held at once.
  void disconnect(int32_t peer, const std::string& why) override {
    std::deque<Held> held;
    {
      std::lock_guard lock(mutex_);
      gone_ = why;
      disconnected_.push_back(peer);
      held.swap(held_);
    }
    for (Held& put : held) put.done({.status = error(ErrorCode::kIo, "{}", why)});
  }

  struct Held {
    int32_t peer;
    std::vector<Write> writes;
    OnDone done;
  };
  // False if so many are not held after half a minute.
  bool wait_for_held(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return held_.size() >= count; });
  }
  size_t held() {
    std::lock_guard lock(mutex_);
    return held_.size();
  }
  std::vector<int32_t> disconnected() {
    std::lock_guard lock(mutex_);
    return disconnected_;
  }
  // The oldest one that is held, no longer held.
  Held take() {
    std::lock_guard lock(mutex_);
    Held first = std::move(held_.front());
    held_.pop_front();
    return first;
  }
  int puts() {
    std::lock_guard lock(mutex_);
    return puts_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Held> held_;              // guarded by mutex_
  std::vector<int32_t> disconnected_;  // guarded by mutex_
  std::string gone_;                   // guarded by mutex_: why puts fail
  int puts_ = 0;                       // guarded by mutex_
};

}  // namespace hylas::test
