#pragma once
// UcxFabric: messages between processes and nodes through UCX (TCP, shared memory, RDMA: what the loaded library has).
// Tags match a message to its receiver; messages of one (peer, tag) arrive in order.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace hylas {

struct UcxOptions {
  std::string devices;     // UCX_NET_DEVICES: "mlx5_0:1,mlx5_1:1"; empty: UCX chooses
  std::string transports;  // UCX_TLS: "tcp", "shm,tcp"; empty: UCX chooses
};

// One worker with its own progress thread, so that a peer's transfer never waits for a computing rank. All calls are
// thread-safe; send and recv block their caller only.
class UcxFabric {
 public:
  // Called once per lost peer, on the progress thread: must only hand the value on.
  using PeerLost = std::function<void(int32_t peer, const std::string& reason)>;

  // `self` is the id that the peers know this process by.
  static Result<std::unique_ptr<UcxFabric>> make(const UcxOptions& options, int32_t self, PeerLost on_lost);
  ~UcxFabric();
  UcxFabric(const UcxFabric&) = delete;
  UcxFabric& operator=(const UcxFabric&) = delete;

  // Opaque bytes that a peer connects with; exchanged over another channel.
  const std::string& address() const;
  // Peer ids are the caller's (node numbers). kIo when the address is no UCX address of this version.
  Status connect(int32_t peer, const std::string& address);

  // Returns when `data` may be reused. kIo when the peer is lost.
  Status send(int32_t peer, uint64_t tag, const void* data, size_t bytes);
  // Copies `data` and returns. The message goes out in order with those of send(). If it cannot, the peer is lost.
  void post(int32_t peer, uint64_t tag, const void* data, size_t bytes);
  // Waits for the message with `tag` from `peer`, of exactly `bytes`. kIo when the peer is lost or the size differs.
  Status recv(int32_t peer, uint64_t tag, void* data, size_t bytes);
  // A message whose size only the sender knows; the receiver refuses more than `bytes_max`.
  Status send_message(int32_t peer, uint64_t tag, const std::string& message);
  Result<std::string> recv_message(int32_t peer, uint64_t tag, size_t bytes_max);

  // Declares a peer lost (its control connection closed): its pending calls return kIo.
  void lose(int32_t peer, const std::string& reason);

 private:
  struct Impl;
  explicit UcxFabric(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hylas
