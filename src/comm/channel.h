#pragma once
// Channel: an ordered one-way pipe of byte messages between two threads; the copy decouples the two.
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <vector>

namespace hylas {

// One sender, one receiver. Holds as many messages as the sender runs ahead (the plans in flight bound that), so a push
// never waits and two stages cannot wait for each other. Buffers are reused: a steady state allocates nothing.
class Channel {
 public:
  void push(const void* data, size_t bytes);
  // Waits for the next message, which must have exactly `bytes`.
  void pop(void* data, size_t bytes);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<std::byte>> messages_;
  std::vector<std::vector<std::byte>> spare_;
};

}  // namespace hylas
