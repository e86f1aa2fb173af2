#pragma once
// Outbox: messages on their way to one peer. Who writes them never waits; a thread of the outbox sends them, and
// heartbeats when there is nothing to say. A peer that takes nothing (stopped, or cut off) only lets it fill up.
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "transfer/control_link.h"

namespace hylas {

// Thread-safe.
class Outbox {
 public:
  static constexpr size_t kBytesMax = size_t{64} << 20;

  Outbox() = default;
  // Stops the link that it was started on, and drops what is left.
  ~Outbox();

  // False, and the message is dropped, when the outbox is full or what it was started on has failed: the peer is lost.
  bool push(std::string message);
  // Once, when the peer is ready to hear: sends what was and will be pushed. `link` outlives the outbox, and is stopped
  // when sending fails or the outbox overflows.
  void start(ControlLink& link);

 private:
  void run(ControlLink& link);
  void close();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> messages_;
  size_t bytes_ = 0;             // of messages_
  bool closed_ = false;          // no message is taken or sent any more
  ControlLink* link_ = nullptr;  // once started
  std::jthread writer_;
};

}  // namespace hylas
