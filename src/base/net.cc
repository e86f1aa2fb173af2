#include "base/net.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace hylas {
namespace {

Error bad_address(std::string_view text, const char* why) {
  return error(ErrorCode::kInvalid, "'{}' is not an address of the form host:port: {}", text, why);
}

// Tries to listen at one resolved address; 0, or the errno that stopped it.
int listen_errno(const addrinfo& address) {
  int socket_fd = socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol);
  if (socket_fd < 0) return errno;
  int on = 1;
  setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bool listens = bind(socket_fd, address.ai_addr, address.ai_addrlen) == 0 && listen(socket_fd, 1) == 0;
  int failure = listens ? 0 : errno;
  close(socket_fd);
  return failure;
}

}  // namespace

Result<HostPort> parse_host_port(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad_address(text, "there is no ':'");
  std::string_view host = text.substr(0, colon), digits = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad_address(text, "an IPv6 address is written in brackets, [::1]:30000");
  }
  if (host.empty()) return bad_address(text, "the host is empty");
  uint16_t port = 0;
  auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (failure != std::errc() || end != digits.data() + digits.size() || port == 0) {
    return bad_address(text, "the port is not a number from 1 to 65535");
  }
  return HostPort{std::string(host), port};
}

std::string to_string(const HostPort& address) {
  bool ipv6 = address.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", address.host, address.port) : fmt::format("{}:{}", address.host, address.port);
}

Status check_port_free(const HostPort& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  int failure = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failure != 0) {
    return error(ErrorCode::kIo, "cannot resolve the host '{}': {}", address.host, gai_strerror(failure));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  int reason = listen_errno(*found);
  if (reason == EADDRINUSE) {
    return error(ErrorCode::kIo, "{} is in use by another process; choose another port", to_string(address));
  }
  if (reason != 0) return error(ErrorCode::kIo, "cannot listen at {}: {}", to_string(address), std::strerror(reason));
  return {};
}

}  // namespace hylas
