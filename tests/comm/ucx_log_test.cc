#include "comm/ucx_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ucs/debug/log_def.h>

#include "base/log.h"

namespace hylas::test {
namespace {

// A command's results are on standard output: nobody else writes there.
TEST(UcxLog, WhatUcxSaysGoesToOurLog) {
  ASSERT_TRUE(log::init("info"));
  log_ucx_here();
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  ucs_log_component_config_t component{};
  component.log_level = UCS_LOG_LEVEL_WARN;
  ucs_log_dispatch("file.c", 17, "function", UCS_LOG_LEVEL_WARN, &component, "%d peers are gone", 3);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::HasSubstr("[warning] ucx: 3 peers are gone (file.c:17)"));
}

}  // namespace
}  // namespace hylas::test
