#pragma once
// Where an instance is and what it does of a request. Plain values.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/base_url.h"
#include "base/result.h"

namespace hylas::router {

enum class WorkerKind : uint8_t { kWhole, kPrefill, kDecode };

// "regular" (SGLang's word for a whole instance), "prefill", "decode".
const char* kind_name(WorkerKind kind);
Result<WorkerKind> parse_kind(std::string_view name);

struct WorkerAddress {
  BaseUrl url;
  WorkerKind kind = WorkerKind::kWhole;
  uint16_t bootstrap_port = 0;  // of a prefill instance; 0: the one that it reports
  // One URL is one worker.
  bool same_worker(const WorkerAddress& other) const { return to_string(url) == to_string(other.url); }
};

// The port may be empty or "none" for an instance that reports its own. The error quotes what is wrong.
Result<WorkerAddress> parse_worker(WorkerKind kind, std::string_view url, std::string_view bootstrap_port = {});

// A file of workers, one a line: "prefill URL [BOOTSTRAP_PORT]", "decode URL" or "regular URL"; '#' begins a comment.
// The error names the line.
Result<std::vector<WorkerAddress>> parse_workers_file(std::string_view text);

}  // namespace hylas::router
