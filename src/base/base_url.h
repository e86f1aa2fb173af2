#pragma once
// The address of a server as users write it. Thread-safe.
#include <string>
#include <string_view>

#include "base/net.h"
#include "base/result.h"

namespace hylas {

struct BaseUrl {
  HostPort address;
  std::string prefix;  // what stands before every path, such as "/llm"; without a slash at its end
};

// "http://host[:port][/prefix]"; the port is 80 if left out. The error quotes `text`.
Result<BaseUrl> parse_base_url(std::string_view text);

// "http://host:port/prefix".
std::string to_string(const BaseUrl& url);

}  // namespace hylas
