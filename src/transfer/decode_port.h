#pragma once
// DecodePort: the control side of a decoding instance. Connects to prefilling ones when a request names them, grants
// them memory, and checks what they wrote.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/net.h"
#include "base/result.h"
#include "transfer/messages.h"
#include "transfer/transfer_plan.h"

namespace hylas {

struct DecodePortOptions {
  std::string secret;
  int64_t silence_us = 3'000'000;
  int64_t connect_us = 5'000'000;  // for a first answer
  InstanceLayout layout;
  std::vector<const void*> memory;  // [rank]: start of its pools
  Link* link = nullptr;             // open; outlives the port
};

// All calls are thread-safe and never wait for a peer.
class DecodePort {
 public:
  // Called on the port's threads: must only hand the value on. After grant() come, for this epoch: perhaps Stalled,
  // then exactly one of Landed and Closed. Only after that one the memory may be used again (or, if it landed, by the
  // sequence).
  struct Landed {
    uint64_t epoch;
    std::string first;  // as in Done
    Status status;      // not ok: the sums differ. Nothing more is written; a new grant may follow.
  };
  struct Closed {
    uint64_t epoch;
    bool may_retry;  // elsewhere or again: the instance could not, is gone, or was asked to abort
    std::string why;
  };
  // The instance is silent, or its connection has ended. It may still write: until it has been heard, or the link has
  // taken its invitation back, the memory stays taken.
  struct Stalled {
    uint64_t epoch;
    std::string why;
  };
  using Event = std::variant<Landed, Closed, Stalled>;
  using OnEvent = std::function<void(Event)>;

  static std::unique_ptr<DecodePort> make(DecodePortOptions options, OnEvent on_event);
  virtual ~DecodePort() = default;

  // Connects first, if need be; what goes wrong comes as Closed.
  virtual void grant(const HostPort& prefill, const Grant& grant) = 0;
  // The request is not wanted any more. The epoch still ends with Landed or Closed.
  virtual void abort(uint64_t epoch) = 0;
  // After Landed with ok: the sequence goes on here.
  virtual void received(uint64_t epoch) = 0;
};

}  // namespace hylas
