#include "base/text_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace hylas {
namespace {

TEST(TextFile, ReadsEveryByte) {
  auto path = std::filesystem::temp_directory_path() / fmt::format("hylas_text_file_{}", getpid());
  const std::string content("a\r\n\0\xff", 5);
  std::ofstream(path, std::ios::binary) << content;
  EXPECT_EQ(*read_text_file(path), content);
  std::filesystem::remove(path);
}

TEST(TextFile, NamesWhatIsNotThere) {
  auto absent = read_text_file("/nowhere/config.json");
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(absent.error().message, "/nowhere/config.json: no such file");
  EXPECT_EQ(read_text_file("/").error().message, "/: not a file");
}

}  // namespace
}  // namespace hylas
