#pragma once
// ControlLink: control messages over one TCP connection between two instances that know the same secret.
//
//   D -> P  kNonce   16 random bytes            P -> D  kNonce  16 random bytes
//   D -> P  kProof   sealed, number 0           P -> D  kProof  sealed, number 0
//   then, both ways: kMessage and kHeartbeat, sealed, numbers 1, 2, ...
//
// Each direction has a key of its own, HMAC-SHA256(secret, side | nonce of D | nonce of P), so that nothing said once
// can be said again, here or in another connection, nor be sent back to whom it came from. A sealed frame is its
// number, its bytes and the first 16 bytes of HMAC-SHA256(key, type | number | bytes). The side that connects proves
// itself first: the other one tells strangers nothing. Messages are not encrypted.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "comm/tcp_link.h"

namespace hylas {

enum class ControlSide : uint8_t { kDecode, kPrefill };  // who connects, who listens

constexpr int64_t kHeartbeatUs = 500'000;
constexpr int64_t kLostUs = 30'000'000;  // silence after which a peer is given up, whatever its connection says
constexpr size_t kControlBytesMax = size_t{16} << 20;  // of one message
constexpr size_t kStrangerBytesMax = 64;               // of one frame before the peer has proved itself

// One thread may receive while another one sends.
class ControlLink {
 public:
  // `side` is the side that stands here.
  ControlLink(std::unique_ptr<TcpLink> tcp, ControlSide side, std::string secret);

  // First of all, on one thread. kIo: says what the peer did wrong; it may have been silent for `wait_us`.
  Status shake_hands(int64_t wait_us);

  // kIo: the peer is gone, or took nothing for kLostUs.
  Status send(std::string_view message);
  Status send_heartbeat();
  // The next message, if one comes within `wait_us`; a heartbeat ends the waiting, too. kIo: the peer is gone, or what
  // it says is not what the holder of the secret would say now.
  Result<std::optional<std::string>> recv(int64_t wait_us);
  // When recv() last got a frame of the peer: now_us().
  int64_t heard_us() const { return heard_us_; }

  // From any thread, also before and during shake_hands(): all calls fail from now on, and those that wait come back.
  void stop() { tcp_->stop(); }
  // For messages: the address of the peer.
  const std::string& peer() const { return tcp_->peer(); }

 private:
  struct Direction {
    std::string key;
    uint64_t number = 0;  // of the next frame
  };

  Status send_sealed(uint8_t type, std::string_view bytes);
  // The type of the frame and what it carried.
  Result<Frame> recv_sealed(int64_t silence_us, size_t bytes_max);

  const std::unique_ptr<TcpLink> tcp_;
  const ControlSide side_;
  const std::string secret_;
  Direction out_, in_;
  std::atomic<int64_t> heard_us_ = 0;
};

// Hands on what comes until the link fails, the peer is silent for kLostUs, or `on_message` has an error; says which.
// `on_wait(silence_us)` is called several times a second, with the time since the peer was heard.
Error listen(ControlLink& link, const std::function<Status(std::string)>& on_message,
             const std::function<void(int64_t)>& on_wait);

}  // namespace hylas
