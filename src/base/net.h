#pragma once
// Network addresses as users write them. Thread-safe.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hylas {

struct HostPort {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without brackets
  uint16_t port = 0;
  bool operator==(const HostPort&) const = default;
};

// "host:port" or "[ipv6]:port"; the port is 1..65535. The error quotes `text`.
Result<HostPort> parse_host_port(std::string_view text);

// "host:port", with brackets around an IPv6 address.
std::string to_string(const HostPort& address);

// Ok if a server could listen at `address` now; otherwise an error that says why (in use, no such host, not permitted).
Status check_port_free(const HostPort& address);

}  // namespace hylas
