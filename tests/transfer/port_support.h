#pragma once
// What the tests of the ports share: a small layout, events to wait for, and the other side of a connection by hand.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "transfer/control_link.h"
#include "transfer/instance_layout.h"
#include "transfer/link.h"
#include "transfer/messages.h"

namespace hylas::test {

constexpr int64_t kWaitUs = 20'000'000;  // for what must come: long enough for a busy machine

// The events of a port, in their order.
template <class Event>
class Events {
 public:
  void add(Event event) {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    ++total_;
    changed_.notify_all();
  }
  // The next event, which must be a T.
  template <class T>
  T next() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::microseconds(kWaitUs), [&] { return !events_.empty(); });
    if (events_.empty()) return ADD_FAILURE() << "no event came", T{};
    const Event event = std::move(events_.front());
    events_.pop_front();
    if (!std::holds_alternative<T>(event)) return ADD_FAILURE() << "event of kind " << event.index(), T{};
    return std::get<T>(event);
  }
  bool empty() const {
    std::lock_guard lock(mutex_);
    return events_.empty();
  }
  int total() const {
    std::lock_guard lock(mutex_);
    return total_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  int total_ = 0;
};

// Reaches whoever describes itself as "memory", and writes nothing.
class FakeLink final : public Link {
 public:
  Status open(std::span<const Region>) override { return {}; }
  Result<std::string> invite() override { return std::string("memory"); }
  bool revoke(const std::string&) override { return ++revoked, !is_writing; }
  Result<int32_t> connect(const std::string& invitation) override {
    if (invitation != "memory") return error(ErrorCode::kIo, "cannot reach '{}'", invitation);
    return ++connected;
  }
  void put(int32_t, std::vector<Write>, OnDone done) override { done({}); }
  void disconnect(int32_t, const std::string&) override { ++disconnected; }

  std::atomic<int> connected = 0, disconnected = 0, revoked = 0;
  std::atomic<bool> is_writing = false;  // somebody writes by the invitation
};

// Whether `holds()` became true in time.
bool eventually(const std::function<bool()>& holds);

// `sizes.world()` ranks with KV in pages of 4 tokens and a delta state in slots; heads are split over attention ranks
// and layers over stages.
InstanceLayout small_layout(ParallelSizes sizes = {});

// The bytes of every rank's pools, with contents that depend on the seed.
using Memory = std::vector<std::vector<uint8_t>>;
Memory memory_of(const InstanceLayout& layout, uint32_t seed);
std::vector<const void*> starts_of(const Memory& memory);

Grant grant_of(uint64_t epoch, uint64_t room = 7);
// What the sources say of an honest transfer that left `memory` as it is.
std::vector<SourceSum> sums_of(const InstanceLayout& from, const InstanceLayout& to, const Grant& grant,
                               const Memory& memory);

// The next message, heartbeats left out; it must be a T.
template <class T>
T hear(ControlLink& link) {
  const int64_t due_us = now_us() + kWaitUs;
  while (now_us() < due_us) {
    auto bytes = link.recv(100'000);
    if (!bytes.ok()) return ADD_FAILURE() << bytes.error().message, T{};
    if (!*bytes) continue;
    const auto message = decode_message(**bytes);
    if (!message.ok()) return ADD_FAILURE() << message.error().message, T{};
    if (!std::holds_alternative<T>(*message)) return ADD_FAILURE() << "message of kind " << message->index(), T{};
    return std::get<T>(*message);
  }
  return ADD_FAILURE() << "no message came", T{};
}
void say(ControlLink& link, const ControlMessage& message);
// Reads until the connection ends; false if it does not.
bool ends(ControlLink& link);

}  // namespace hylas::test
