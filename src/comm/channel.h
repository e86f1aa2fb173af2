#pragma once
// Channel: an ordered, bounded one-way pipe of byte messages between two threads; the copy decouples the two.
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <vector>

namespace hylas {

// One sender, one receiver. Message buffers are kept and reused, so a steady state allocates nothing.
class Channel {
 public:
  // Waits while kDepth messages are under way.
  void push(const void* data, size_t bytes);
  // Waits for the next message, which must have exactly `bytes`.
  void pop(void* data, size_t bytes);

 private:
  static constexpr size_t kDepth = 4;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::byte> messages_[kDepth];
  size_t pushed_ = 0;
  size_t popped_ = 0;
};

}  // namespace hylas
