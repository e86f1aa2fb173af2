#include "comm/channel.h"

#include <cstring>
#include <utility>

#include "base/check.h"

namespace hylas {

// The copies are made outside the lock.
void Channel::push(const void* data, size_t bytes) {
  std::vector<std::byte> message;
  {
    std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      message = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  message.resize(bytes);
  if (bytes > 0) std::memcpy(message.data(), data, bytes);
  std::lock_guard lock(mutex_);
  messages_.push_back(std::move(message));
  changed_.notify_one();
}

void Channel::pop(void* data, size_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !messages_.empty(); });
  std::vector<std::byte> message = std::move(messages_.front());
  messages_.pop_front();
  lock.unlock();
  HYLAS_CHECK(message.size() == bytes, "message of {} bytes, {} expected", message.size(), bytes);
  if (bytes > 0) std::memcpy(data, message.data(), bytes);
  lock.lock();
  spare_.push_back(std::move(message));
}

}  // namespace hylas
