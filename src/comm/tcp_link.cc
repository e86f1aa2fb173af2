#include "comm/tcp_link.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace hylas {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<AddressList> resolve(const HostPort& address, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const char* host = address.host.empty() ? nullptr : address.host.c_str();
  const int failure = getaddrinfo(host, std::to_string(address.port).c_str(), &hints, &found);
  if (failure != 0) {
    return error(ErrorCode::kInvalid, "the host '{}' has no address: {}", address.host, gai_strerror(failure));
  }
  return AddressList(found, freeaddrinfo);
}

// Whether `events` came within `wait_us`.
bool wait_for(int socket, short events, int64_t wait_us) {
  const int64_t end_us = now_us() + wait_us;
  while (true) {
    pollfd waiting{socket, events, 0};
    const int64_t left_ms = std::max<int64_t>(0, (end_us - now_us() + 999) / 1000);
    const int ready = poll(&waiting, 1, static_cast<int>(left_ms));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

std::string name_of_peer(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST] = "?";
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  }
  return std::string_view(host).starts_with("::ffff:") ? host + 7 : host;
}

// 0, or the errno that stopped it.
int connect_errno(int socket, const addrinfo& address, int64_t wait_us) {
  if (::connect(socket, address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!wait_for(socket, POLLOUT, wait_us)) return ETIMEDOUT;
  int failure = 0;
  socklen_t length = sizeof failure;
  getsockopt(socket, SOL_SOCKET, SO_ERROR, &failure, &length);
  return failure;
}

constexpr size_t kHeaderBytes = 5;

std::string with_header(uint8_t type, std::string_view bytes) {
  const auto length = static_cast<uint32_t>(bytes.size());
  std::string frame(kHeaderBytes + bytes.size(), '\0');
  std::memcpy(frame.data(), &length, sizeof length);
  frame[4] = static_cast<char>(type);
  if (!bytes.empty()) std::memcpy(frame.data() + kHeaderBytes, bytes.data(), bytes.size());
  return frame;
}

}  // namespace

TcpLink::TcpLink(int socket) : socket_(socket), peer_(name_of_peer(socket)) {
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
}

TcpLink::~TcpLink() { ::close(socket_); }

void TcpLink::end_sending() { shutdown(socket_, SHUT_WR); }

void TcpLink::stop() { shutdown(socket_, SHUT_RDWR); }

bool TcpLink::readable(int64_t wait_us) { return wait_for(socket_, POLLIN, wait_us); }

Result<std::unique_ptr<TcpLink>> TcpLink::connect(const HostPort& address, int64_t wait_us) {
  HYLAS_ASSIGN(const AddressList list, resolve(address, 0));
  int failure = EHOSTUNREACH;
  for (const addrinfo* one = list.get(); one; one = one->ai_next) {
    const int socket = ::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, one->ai_protocol);
    if (socket < 0) continue;
    failure = connect_errno(socket, *one, wait_us);
    if (failure == 0) return std::make_unique<TcpLink>(socket);
    ::close(socket);
  }
  return error(ErrorCode::kIo, "{}: {}", to_string(address), std::strerror(failure));
}

Status TcpLink::send(uint8_t type, std::string_view bytes, int64_t stall_us) {
  const std::string frame = with_header(type, bytes);
  std::lock_guard lock(send_mutex_);
  for (size_t sent = 0; sent < frame.size();) {
    const ssize_t n = ::send(socket_, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      if (!wait_for(socket_, POLLOUT, stall_us)) {
        return error(ErrorCode::kIo, "it took no bytes for {:.1f} s", static_cast<double>(stall_us) * 1e-6);
      }
    } else if (n < 0 && errno != EINTR) {
      return error(ErrorCode::kIo, "{}", errno == EPIPE ? "connection closed" : std::strerror(errno));
    }
  }
  return {};
}

bool TcpLink::try_send(uint8_t type, std::string_view bytes) {
  const std::string frame = with_header(type, bytes);
  std::unique_lock lock(send_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  return ::send(socket_, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(frame.size());
}

Status TcpLink::read_all(char* to, size_t bytes, int64_t silence_us) {
  while (bytes > 0) {
    const ssize_t n = ::recv(socket_, to, bytes, 0);
    if (n > 0) {
      to += n;
      bytes -= static_cast<size_t>(n);
    } else if (n == 0) {
      return error(ErrorCode::kIo, "connection closed");
    } else if (errno == EAGAIN) {
      if (!wait_for(socket_, POLLIN, silence_us)) {
        return error(ErrorCode::kIo, "no sign of life for {:.1f} s", static_cast<double>(silence_us) * 1e-6);
      }
    } else if (errno != EINTR) {
      return error(ErrorCode::kIo, "{}", std::strerror(errno));
    }
  }
  return {};
}

// The room for a frame grows as it arrives: a stray length takes no memory.
Result<Frame> TcpLink::recv(int64_t silence_us, size_t bytes_max) {
  char header[kHeaderBytes];
  HYLAS_TRY(read_all(header, sizeof header, silence_us));
  uint32_t length = 0;
  std::memcpy(&length, header, sizeof length);
  if (length > bytes_max) {
    return error(ErrorCode::kIo, "it announces a message of {} bytes, at most {} are allowed", length, bytes_max);
  }
  Frame frame{.type = static_cast<uint8_t>(header[4])};
  constexpr size_t kStep = size_t{1} << 20;
  while (frame.bytes.size() < length) {
    const size_t begin = frame.bytes.size(), count = std::min(kStep, length - begin);
    frame.bytes.resize(begin + count);
    HYLAS_TRY(read_all(frame.bytes.data() + begin, count, silence_us));
  }
  return frame;
}

Result<TcpListener> TcpListener::listen(const HostPort& address) {
  constexpr int kFlags = AI_PASSIVE;
  auto found = resolve(address, kFlags | AI_NUMERICHOST);
  if (!found.ok()) found = resolve({"", address.port}, kFlags);
  HYLAS_ASSIGN(const AddressList list, std::move(found));
  int failure = EADDRNOTAVAIL;
  for (const addrinfo* one = list.get(); one; one = one->ai_next) {
    const int socket = ::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, one->ai_protocol);
    if (socket < 0) continue;
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(socket, one->ai_addr, one->ai_addrlen) == 0 && ::listen(socket, 128) == 0) return TcpListener(socket);
    failure = errno;
    ::close(socket);
  }
  const char* remedy = failure == EADDRNOTAVAIL ? "; it must be an address of this node" : "";
  return error(ErrorCode::kIo, "cannot listen at {}: {}{}", to_string(address), std::strerror(failure), remedy);
}

TcpListener::TcpListener(TcpListener&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}

TcpListener::~TcpListener() {
  if (socket_ >= 0) ::close(socket_);
}

uint16_t TcpListener::port() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::unique_ptr<TcpLink> TcpListener::accept(int64_t wait_us) {
  if (!wait_for(socket_, POLLIN, wait_us)) return nullptr;
  const int socket = accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
  return socket < 0 ? nullptr : std::make_unique<TcpLink>(socket);
}

}  // namespace hylas
