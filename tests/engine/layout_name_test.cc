#include "engine/layout_name.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

TEST(LayoutName, SizesInAnyOrderAndCase) {
  const ParallelSizes pipeline = parse_layout("PP4TP2").value();
  EXPECT_EQ(pipeline.pp, 4);
  EXPECT_EQ(pipeline.tp, 2);
  EXPECT_EQ(pipeline.ep, 1);
  const ParallelSizes decode = parse_layout("tp8ep8dp4").value();
  EXPECT_EQ(decode.tp, 8);
  EXPECT_EQ(decode.ep, 8);
  EXPECT_EQ(decode.dp, 4);
  EXPECT_EQ(parse_layout("tp16").value().tp, 16);
}

TEST(LayoutName, RefusesWhatIsNone) {
  for (const char* text : {"", "tp", "tp0", "tp-1", "8", "tp8tp8", "tp8x", "xp8", "tp8 pp2", "tp99999", "t"}) {
    const auto parsed = parse_layout(text);
    EXPECT_FALSE(parsed.ok()) << text;
    if (!parsed.ok()) {
      EXPECT_NE(parsed.error().message.find(text), std::string::npos);
    }
  }
}

TEST(Bytes, PowersOfTenAndOfTwo) {
  EXPECT_EQ(parse_bytes("--gpu-memory", "141GB").value(), 141'000'000'000);
  EXPECT_EQ(parse_bytes("--gpu-memory", "80GiB").value(), int64_t{80} << 30);
  EXPECT_EQ(parse_bytes("--gpu-memory", "1.5mb").value(), 1'500'000);
  EXPECT_EQ(parse_bytes("--gpu-memory", "4096").value(), 4096);
}

TEST(Bytes, RefusesWhatIsNone) {
  for (const char* text : {"", "GB", "-1GB", "0", "12 GB", "12XB", "inf", "nan", "1e30"}) {
    const auto parsed = parse_bytes("--gpu-memory", text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().message,
              fmt::format("--gpu-memory '{}' is not an amount of memory such as 141GB or 80GiB", text));
  }
}

}  // namespace
}  // namespace hylas
