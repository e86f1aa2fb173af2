#include "weights/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "support/temp_dir.h"
#include "weights/safetensors.h"

namespace hylas::test {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(SafetensorsWriter, WhatIsWrittenIsReadBackAligned) {
  TempDir dir;
  std::array<uint8_t, 3> small = {1, 2, 3};
  std::array<float, 6> matrix = {1, 2, 3, 4, 5, 6};
  std::array<int64_t, 1> number = {-7};
  ASSERT_TRUE(write_safetensors(dir.file("x"), {{"a\"\n", Tensor(small.data(), DType::kU8, {3})},
                                                {"m", Tensor(matrix.data(), DType::kF32, {2, 3})},
                                                {"n", Tensor(number.data(), DType::kI64, {1})}})
                  .ok());
  const SafetensorsFile file = SafetensorsFile::open(dir.file("x")).value();
  ASSERT_EQ(file.tensors().size(), 3u);
  for (const auto& [name, info] : file.tensors()) EXPECT_EQ(info.offset % dtype_bytes(*info.dtype), 0u) << name;
  EXPECT_EQ(file.tensors().at("n").offset % 8, 0u);
  const Tensor m = tensor_view(file, "m", file.tensors().at("m")).value();
  EXPECT_EQ(m.row<float>(1)[2], 6);
  EXPECT_EQ(tensor_view(file, "n", file.tensors().at("n"))->as<int64_t>()[0], -7);
  EXPECT_EQ(tensor_view(file, "a", file.tensors().at("a\"\n"))->as<uint8_t>()[2], 3);
}

TEST(SafetensorsWriter, TakesTensorsInAnyOrder) {
  TempDir dir;
  auto writer = SafetensorsWriter::create(dir.file("x"), {{"a", DType::kU8, {2}}, {"b", DType::kU8, {3}}}).value();
  ASSERT_TRUE(writer.write("b", bytes_of("bbb")).ok());
  ASSERT_TRUE(writer.write("a", bytes_of("aa")).ok());
  ASSERT_TRUE(writer.finish().ok());
  const SafetensorsFile file = SafetensorsFile::open(dir.file("x")).value();
  EXPECT_EQ(tensor_view(file, "b", file.tensors().at("b"))->as<uint8_t>()[0], 'b');
  EXPECT_FALSE(std::filesystem::exists(dir.file("x.part")));
}

TEST(SafetensorsWriter, LeavesNothingBehindUnlessFinished) {
  TempDir dir;
  {
    auto writer = SafetensorsWriter::create(dir.file("x"), {{"a", DType::kU8, {2}}}).value();
    ASSERT_TRUE(writer.write("a", bytes_of("aa")).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SafetensorsWriter, SaysWhichFileCannotBeWritten) {
  TempDir dir;
  const auto writer = SafetensorsWriter::create(dir.file("absent/x"), {});
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().code, ErrorCode::kIo);
  EXPECT_THAT(writer.error().message, testing::HasSubstr(dir.file("absent/x")));
}

}  // namespace
}  // namespace hylas::test
