#pragma once
// PrefillPort: the control side of a prefilling instance. Listens at the bootstrap port; decoding instances connect.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "base/net.h"
#include "base/result.h"
#include "transfer/messages.h"
#include "transfer/sender.h"

namespace hylas {

struct PrefillPortOptions {
  HostPort address;
  std::string secret;              // both sides prove that they know it; empty: anybody on the network may connect
  int64_t silence_us = 3'000'000;  // a peer that said nothing for so long is not there (heartbeats are more frequent)
  InstanceLayout layout;
};

// All calls are thread-safe and never wait for a peer.
class PrefillPort {
 public:
  // Called on the port's threads: must only hand the value on. In the order in which the peer said it.
  struct Granted {
    int32_t peer;
    Grant grant;
  };
  struct AbortWanted {
    int32_t peer;
    Abort abort;
  };
  struct WasReceived {
    int32_t peer;
    Received received;
  };
  // Nothing more comes from this peer, and nothing reaches it. `sender` fails what is under way to it.
  struct PeerGone {
    int32_t peer;
    std::string why;
  };
  using Event = std::variant<Granted, AbortWanted, WasReceived, PeerGone>;
  using OnEvent = std::function<void(Event)>;

  // kIo: the address cannot be bound. Peers are added to `sender` and removed from it; `link` and `sender` outlive the
  // port.
  static Result<std::unique_ptr<PrefillPort>> open(const PrefillPortOptions& options, Link& link, Sender& sender,
                                                   OnEvent on_event);
  virtual ~PrefillPort() = default;

  virtual uint16_t port() const = 0;
  virtual int32_t peers() const = 0;
  // To a peer that is gone: nothing happens.
  virtual void send(int32_t peer, const ControlMessage& message) = 0;
  // Parts from a peer that the link does not reach any more; PeerGone comes. It may connect again, and then there is a
  // new path.
  virtual void disconnect(int32_t peer) = 0;
};

}  // namespace hylas
