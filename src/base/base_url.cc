#include "base/base_url.h"

namespace hylas {

Result<BaseUrl> parse_base_url(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://")) {
    return error(ErrorCode::kUnsupported, "{}: only http:// is spoken; put a proxy that ends TLS before it", text);
  }
  if (!text.starts_with(kScheme)) {
    return error(ErrorCode::kInvalid, "'{}' is not a URL such as http://127.0.0.1:30000", text);
  }
  std::string_view rest = text.substr(kScheme.size());
  size_t slash = std::min(rest.find('/'), rest.size());
  std::string address(rest.substr(0, slash));
  std::string_view prefix = rest.substr(slash);
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  bool has_port = address.rfind(':') != std::string::npos && !address.ends_with(']');
  auto parsed = parse_host_port(has_port ? address : address + ":80");
  if (!parsed.ok()) return error(ErrorCode::kInvalid, "'{}': {}", text, parsed.error().message);
  return BaseUrl{*parsed, std::string(prefix)};
}

std::string to_string(const BaseUrl& url) { return fmt::format("http://{}{}", to_string(url.address), url.prefix); }

}  // namespace hylas
