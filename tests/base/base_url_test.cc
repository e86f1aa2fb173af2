#include "base/base_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;

TEST(BaseUrl, HasHostPortAndPrefix) {
  auto url = parse_base_url("http://gpu7:30000/llm/");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->address, (HostPort{"gpu7", 30000}));
  EXPECT_EQ(url->prefix, "/llm");
  EXPECT_EQ(to_string(*url), "http://gpu7:30000/llm");
}

TEST(BaseUrl, StandsAtPort80WithoutOne) {
  EXPECT_EQ(to_string(*parse_base_url("http://gpu7")), "http://gpu7:80");
  EXPECT_EQ(to_string(*parse_base_url("http://[::1]/")), "http://[::1]:80");
}

TEST(BaseUrl, TakesIpv6InBrackets) { EXPECT_EQ(parse_base_url("http://[::1]:8000")->address.host, "::1"); }

TEST(BaseUrl, RefusesWhatItCannotReach) {
  EXPECT_EQ(parse_base_url("https://gpu7").error().code, ErrorCode::kUnsupported);
  for (const char* text : {"", "gpu7:30000", "http://", "http://gpu7:x", "http://gpu7:70000"}) {
    auto url = parse_base_url(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_EQ(url.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(url.error().message, HasSubstr(text));
  }
}

}  // namespace
}  // namespace hylas
