#include "router/workers_file.h"

#include "base/text_file.h"

namespace hylas::router {

Result<std::optional<std::vector<WorkerAddress>>> WorkersFile::changes() {
  using Changes = std::optional<std::vector<WorkerAddress>>;
  auto text = read_text_file(path_);
  if (!text.ok()) {
    if (std::exchange(missing_, true)) return Changes();
    return text.error();
  }
  missing_ = false;
  if (text_ == *text) return Changes();
  text_ = *text;
  auto workers = parse_workers_file(*text_);
  if (!workers.ok()) return error(ErrorCode::kInvalid, "{}, {}", path_, workers.error().message);
  return Changes(std::move(*workers));
}

}  // namespace hylas::router
