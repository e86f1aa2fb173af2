#pragma once
// TcpLink: one TCP connection that carries frames, each with a type and bytes. Its end tells at once that the other
// process is gone; silence tells that the other machine or the network is.
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/net.h"
#include "base/result.h"

namespace hylas {

struct Frame {
  uint8_t type = 0;
  std::string bytes;
};

// send() may be called from any thread, recv() from one thread at a time.
class TcpLink {
 public:
  // Takes over the connected socket.
  explicit TcpLink(int socket);
  ~TcpLink();
  TcpLink(const TcpLink&) = delete;
  TcpLink& operator=(const TcpLink&) = delete;

  // kIo: says why nobody answers. kInvalid: the host has no address.
  static Result<std::unique_ptr<TcpLink>> connect(const HostPort& address, int64_t wait_us);

  // kIo when the peer is gone, or takes no bytes for `stall_us`.
  Status send(uint8_t type, std::string_view bytes, int64_t stall_us = 3'000'000);
  // As send, but never waits; whether all of it went out.
  bool try_send(uint8_t type, std::string_view bytes);
  // The next frame. kIo when the peer is gone, no byte came for `silence_us`, or it announces more than `bytes_max`.
  Result<Frame> recv(int64_t silence_us, size_t bytes_max = size_t{1} << 30);
  // Whether recv() would find something within `wait_us`.
  bool readable(int64_t wait_us);
  // The peer reads what was sent, and then the end. It may still send.
  void end_sending();
  // Ends the connection in both directions, from any thread: whoever waits in send() or recv() comes back.
  void stop();

  // "10.0.0.2": where the peer is.
  const std::string& peer() const { return peer_; }

 private:
  Status read_all(char* to, size_t bytes, int64_t silence_us);

  int socket_;
  std::string peer_;
  std::mutex send_mutex_;  // a frame goes out whole
};

// Takes connections until it is destroyed.
class TcpListener {
 public:
  // A numeric address is bound as it is. A name is bound on all interfaces: what a node calls itself is often not what
  // others reach it by.
  static Result<TcpListener> listen(const HostPort& address);
  TcpListener(TcpListener&& other) noexcept;
  TcpListener& operator=(TcpListener&&) = delete;
  ~TcpListener();

  // Where it listens: the system's choice if port 0 was asked for.
  uint16_t port() const;
  // Null if nobody came within `wait_us`.
  std::unique_ptr<TcpLink> accept(int64_t wait_us);

 private:
  explicit TcpListener(int socket) : socket_(socket) {}
  int socket_;
};

}  // namespace hylas
