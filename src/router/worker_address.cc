#include "router/worker_address.h"

#include <charconv>
#include <sstream>

namespace hylas::router {

const char* kind_name(WorkerKind kind) {
  if (kind == WorkerKind::kWhole) return "regular";
  return kind == WorkerKind::kPrefill ? "prefill" : "decode";
}

Result<WorkerKind> parse_kind(std::string_view name) {
  if (name == "regular" || name == "whole") return WorkerKind::kWhole;
  if (name == "prefill") return WorkerKind::kPrefill;
  if (name == "decode") return WorkerKind::kDecode;
  return error(ErrorCode::kInvalid, "'{}' is no kind of worker: regular, prefill or decode", name);
}

Result<WorkerAddress> parse_worker(WorkerKind kind, std::string_view url, std::string_view bootstrap_port) {
  HYLAS_ASSIGN(BaseUrl parsed, parse_base_url(url));
  WorkerAddress address{.url = std::move(parsed), .kind = kind};
  if (bootstrap_port.empty() || bootstrap_port == "none" || bootstrap_port == "None") return address;
  if (kind != WorkerKind::kPrefill) {
    return error(ErrorCode::kInvalid, "{} {}: only a prefill instance has a bootstrap port", url, bootstrap_port);
  }
  const char* end = bootstrap_port.data() + bootstrap_port.size();
  auto [stop, problem] = std::from_chars(bootstrap_port.data(), end, address.bootstrap_port);
  if (problem != std::errc() || stop != end || address.bootstrap_port == 0) {
    return error(ErrorCode::kInvalid, "{} {}: the bootstrap port is not a number from 1 to 65535", url, bootstrap_port);
  }
  return address;
}

Result<std::vector<WorkerAddress>> parse_workers_file(std::string_view text) {
  std::vector<WorkerAddress> workers;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string kind, url, port, more;
    if (!(words >> kind)) continue;
    words >> url >> port >> more;
    auto failed = [&](const std::string& message) {
      return error(ErrorCode::kInvalid, "line {}: {}", number, message);
    };
    auto parsed_kind = parse_kind(kind);
    if (!parsed_kind.ok()) return failed(parsed_kind.error().message);
    auto worker = parse_worker(*parsed_kind, url, port);
    if (!worker.ok()) return failed(worker.error().message);
    if (!more.empty()) return failed(fmt::format("'{}' is too much: KIND URL [BOOTSTRAP_PORT]", more));
    for (const WorkerAddress& other : workers) {
      if (other.same_worker(*worker)) return failed(fmt::format("{} is there twice", url));
    }
    workers.push_back(std::move(*worker));
  }
  return workers;
}

}  // namespace hylas::router
