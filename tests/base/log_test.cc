#include "base/log.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

TEST(Log, TakesTheLevelsOfTheCommandLineAndNoOther) {
  for (const char* level : {"trace", "debug", "info", "warn", "error", "off"}) EXPECT_TRUE(log::init(level)) << level;
  EXPECT_FALSE(log::init("loud"));
}

TEST(Log, WritesToStderrWithLevelAndText) {
  ASSERT_TRUE(log::init("info"));
  testing::internal::CaptureStderr();
  log::info("listening on port {}", 30000);
  log::debug("not shown at this level");
  std::string shown = testing::internal::GetCapturedStderr();
  EXPECT_NE(shown.find("[info] listening on port 30000\n"), std::string::npos) << shown;
  EXPECT_EQ(shown.find("not shown"), std::string::npos);
}

}  // namespace
}  // namespace hylas
