// What an instance reports, and whether a request fits.
#include "router/worker_load.h"

#include <gtest/gtest.h>

namespace hylas::router {
namespace {

constexpr const char* kReport = R"({"role": "decode", "bootstrap_port": 0, "running": 3, "queued": 1, "slots_free": 5,
    "slots_max": 8, "pages_free": 100, "pages_max": 120, "page_size": 64,
    "kv_tokens_max": 7680, "context_length": 4096})";

std::optional<WorkerLoad> busy() {
  return WorkerLoad{.running = 4, .slots_free = 4, .slots_max = 8, .pages_free = 10, .pages_max = 20, .page_size = 64};
}

TEST(WorkerLoad, IsReadFromTheReport) {
  auto load = parse_load(kReport);
  ASSERT_TRUE(load.ok()) << load.error().message;
  EXPECT_EQ(load->role, WorkerKind::kDecode);
  EXPECT_EQ(load->running, 3);
  EXPECT_EQ(load->slots_free, 5);
  EXPECT_EQ(load->pages_max, 120);
  EXPECT_EQ(load->page_size, 64);
}

TEST(WorkerLoad, AnotherServersReportIsAnError) {
  EXPECT_FALSE(parse_load("[]").ok());
  EXPECT_FALSE(parse_load(R"({"load": 3})").ok());
  EXPECT_FALSE(parse_load(R"({"role": "cook"})").ok());
  std::string bad_port = kReport;
  bad_port.replace(bad_port.find("\"bootstrap_port\": 0"), 19, "\"bootstrap_port\": 70000");
  EXPECT_FALSE(parse_load(bad_port).ok());
}

TEST(Demand, CountsPagesOfPromptAndGrowth) {
  EXPECT_EQ(pages_of({.sequences = 1, .prompt_tokens = 64, .growth_tokens = 0}, 64), 1);
  EXPECT_EQ(pages_of({.sequences = 1, .prompt_tokens = 64, .growth_tokens = 1}, 64), 2);
  EXPECT_EQ(pages_of({.sequences = 3, .prompt_tokens = 64, .growth_tokens = 0}, 64), 3);
}

TEST(Fits, NeedsASlotAndPages) {
  EXPECT_TRUE(fits({.sequences = 4}, busy(), {.sequences = 4}));
  EXPECT_FALSE(fits({.sequences = 5}, busy(), {.sequences = 4}));
  EXPECT_TRUE(fits({.prompt_tokens = 640}, busy(), {.sequences = 4}));
  EXPECT_FALSE(fits({.prompt_tokens = 641}, busy(), {.sequences = 4}));
}

TEST(Fits, CountsWhatWasSentSinceTheReport) {
  EXPECT_FALSE(fits({}, busy(), {.sequences = 4, .recent_sequences = 4}));
  EXPECT_FALSE(fits({.prompt_tokens = 640}, busy(), {.sequences = 4, .recent_sequences = 1, .recent_pages = 1}));
  // The instance may not have seen yet what was sent before it reported.
  EXPECT_FALSE(fits({}, busy(), {.sequences = 8}));
}

TEST(Fits, WhoQueuesThereComesFirst) {
  auto load = busy();
  load->queued = 4;
  EXPECT_FALSE(fits({}, load, {.sequences = 4}));
}

TEST(Fits, WhatIsTooLargeGoesToAnIdleInstance) {
  auto load = busy();
  Demand huge{.sequences = 100, .prompt_tokens = 1'000'000};
  EXPECT_FALSE(fits(huge, load, {}));
  load->running = 0;
  EXPECT_TRUE(fits(huge, load, {}));
}

TEST(Fits, NothingIsKnownOfOtherServers) { EXPECT_TRUE(fits({.sequences = 100}, std::nullopt, {.sequences = 1000})); }

}  // namespace
}  // namespace hylas::router
