#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weights/raw_file.h"
#include "weights/safetensors.h"

namespace hylas::test {
namespace {

using testing::HasSubstr;

Result<TensorMap> parse(const std::string& bytes) {
  return parse_safetensors_header(bytes, bytes.size(), "x.safetensors");
}
Result<TensorMap> parse(const std::string& header, size_t data_bytes) {
  return parse(raw_safetensors(header, data_bytes));
}

void expect_refused(const Result<TensorMap>& result, const std::string& why) {
  ASSERT_FALSE(result.ok()) << "should be refused: " << why;
  EXPECT_EQ(result.error().code, ErrorCode::kInvalid);
  EXPECT_THAT(result.error().message, HasSubstr("x.safetensors"));
  EXPECT_THAT(result.error().message, HasSubstr(why));
}

TEST(SafetensorsHeader, ReadsTypesShapesAndOffsets) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
      R"("b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},)"
      R"("c":{"dtype":"BOOL","shape":[3],"data_offsets":[16,19]}})";
  const TensorMap tensors = parse(header, 19).value();
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors.at("a").dtype, DType::kBF16);
  EXPECT_EQ(tensors.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors.at("a").offset, 8 + header.size());
  EXPECT_EQ(tensors.at("b").bytes, 4u);
  EXPECT_EQ(tensors.at("b").offset, 8 + header.size() + 12);
  EXPECT_EQ(tensors.at("c").dtype, DType::kU8);
}

TEST(SafetensorsHeader, TakesEmptyTensorsAndTrailingSpaces) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},)"
                             R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     )";
  EXPECT_EQ(parse(header, 4)->at("a").bytes, 0u);
}

TEST(SafetensorsHeader, KeepsTensorsOfUnknownType) {
  const TensorMap tensors = parse(R"({"a":{"dtype":"F4_E2M1","shape":[2,3],"data_offsets":[0,3]}})", 3).value();
  EXPECT_FALSE(tensors.at("a").dtype);
  EXPECT_EQ(tensors.at("a").dtype_name, "F4_E2M1");
}

TEST(SafetensorsHeader, RefusesFilesThatAreTooShort) {
  expect_refused(parse(std::string()), "0 bytes are too few");
  expect_refused(parse("1234567"), "7 bytes are too few");
  expect_refused(parse(raw_safetensors("{}", 0).substr(0, 9)),
                 "truncated: its header ends at byte 10, but the file has 9");
}

TEST(SafetensorsHeader, RefusesAnAbsurdHeaderLength) {
  expect_refused(parse(std::string(16, '\xff')), "header would have 18446744073709551615 bytes");
}

TEST(SafetensorsHeader, RefusesWhatIsNotAJsonObject) {
  expect_refused(parse("{", 0), "invalid JSON");
  expect_refused(parse("[]", 0), "must be a JSON object");
  expect_refused(parse(std::string(100, '['), 0), "levels deep");
}

TEST(SafetensorsHeader, TellsExpectedAndActualSizeOfATruncatedFile) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
  const size_t whole = 8 + header.size() + 16;
  expect_refused(parse(header, 15), fmt::format("describes {} bytes, but the file has {}", whole, whole - 1));
}

TEST(SafetensorsHeader, RefusesBytesThatBelongToNoTensor) {
  expect_refused(parse(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", 17), "describes");
  expect_refused(parse(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
                 "bytes 0 to 4 of the data, before `a`");
}

TEST(SafetensorsHeader, RefusesOverlappingTensors) {
  expect_refused(parse(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                       12),
                 "`a` and `b` overlap");
}

TEST(SafetensorsHeader, RefusesANameThatOccursTwice) {
  expect_refused(parse(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                       4),
                 "1 of the 2 names in its header occur twice");
  // Braces, commas and quotes inside a name are not names.
  EXPECT_TRUE(parse(R"({"a,\"b\":{[":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4).ok());
}

TEST(SafetensorsHeader, RefusesASizeThatIsNotTypeTimesShape) {
  expect_refused(parse(R"({"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,10]}})", 10),
                 "`a` of type BF16 and shape [2, 3] has 12 bytes, but its data_offsets span 10");
}

TEST(SafetensorsHeader, RefusesShapesThatOverflow) {
  for (const char* shape : {"[-1]", "[1.5]", R"(["2"])", "[4294967296,4294967296]", "[9223372036854775807,2]",
                            "[9223372036854775807]", "[18446744073709551615]"}) {
    expect_refused(parse(fmt::format(R"({{"a":{{"dtype":"F32","shape":{},"data_offsets":[0,4]}}}})", shape), 4),
                   "which no tensor has");
  }
  expect_refused(parse(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
                 "17 dimensions");
}

TEST(SafetensorsHeader, RefusesOffsetsThatAreNotARange) {
  for (const char* offsets :
       {"[4,0]", "[-4,0]", "[0]", "[0,4,8]", R"(["0","4"])", "[0.5,4.5]", "[0,18446744073709551615]"}) {
    expect_refused(parse(fmt::format(R"({{"a":{{"dtype":"F32","shape":[1],"data_offsets":{}}}}})", offsets), 4),
                   "`a.data_offsets`");
  }
  expect_refused(
      parse(R"({"a":{"dtype":"F9","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]}})", 4),
      "truncated");
}

TEST(SafetensorsHeader, NamesTheFieldThatIsMissingOrOfTheWrongKind) {
  expect_refused(parse(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4), "`a.dtype`");
  expect_refused(parse(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "`a.shape`");
  expect_refused(parse(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "`a.data_offsets`");
  expect_refused(parse(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4),
                 "`a.dtype` must be a string, not 7");
  expect_refused(parse(R"({"a":3})", 0), "`a` must be an object");
}

}  // namespace
}  // namespace hylas::test
