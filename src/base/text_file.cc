#include "base/text_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace hylas {

Result<std::string> read_text_file(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::exists(path, code)) return error(ErrorCode::kNotFound, "{}: no such file", path);
  if (!std::filesystem::is_regular_file(path, code)) return error(ErrorCode::kIo, "{}: not a file", path);
  std::ifstream in(path, std::ios::binary);
  if (!in) return error(ErrorCode::kIo, "{}: {}", path, std::strerror(errno));
  std::string content{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad()) return error(ErrorCode::kIo, "{}: reading failed", path);
  return content;
}

}  // namespace hylas
