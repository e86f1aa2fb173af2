#include "comm/channel.h"

#include <cstring>

#include "base/check.h"

namespace hylas {

// The copies are made outside the lock: a slot belongs to the sender until pushed_ passes it, then to the receiver.
void Channel::push(const void* data, size_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return pushed_ - popped_ < kDepth; });
  std::vector<std::byte>& message = messages_[pushed_ % kDepth];
  lock.unlock();
  message.resize(bytes);
  std::memcpy(message.data(), data, bytes);
  lock.lock();
  ++pushed_;
  changed_.notify_one();
}

void Channel::pop(void* data, size_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return pushed_ > popped_; });
  const std::vector<std::byte>& message = messages_[popped_ % kDepth];
  lock.unlock();
  HYLAS_CHECK(message.size() == bytes, "message of {} bytes, {} expected", message.size(), bytes);
  std::memcpy(data, message.data(), bytes);
  lock.lock();
  ++popped_;
  changed_.notify_one();
}

}  // namespace hylas
