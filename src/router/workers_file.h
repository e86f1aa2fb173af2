#pragma once
// A file of workers that is read again when it changes.
#include <optional>
#include <string>
#include <vector>

#include "router/worker_address.h"

namespace hylas::router {

// Not thread-safe.
class WorkersFile {
 public:
  explicit WorkersFile(std::string path) : path_(std::move(path)) {}

  // Its workers if the text is another than at the last call, else nothing. An error names the file, and is given once
  // for each text: what was valid before goes on.
  Result<std::optional<std::vector<WorkerAddress>>> changes();

 private:
  std::string path_;
  std::optional<std::string> text_;
  bool missing_ = false;
};

}  // namespace hylas::router
