#include "evaluate/timing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Distribution, InterpolatesAsNumpyDoes) {
  Distribution values = distribution({40, 10, 20, 30});
  EXPECT_EQ(values.count, 4);
  EXPECT_DOUBLE_EQ(values.mean, 25);
  EXPECT_DOUBLE_EQ(values.p50, 25);
  EXPECT_DOUBLE_EQ(values.p90, 37);  // np.percentile([10, 20, 30, 40], 90)
  EXPECT_DOUBLE_EQ(values.p99, 39.7);
}

TEST(Distribution, OfOneIsThatOneAndOfNothingIsZero) {
  EXPECT_DOUBLE_EQ(distribution({7}).p99, 7);
  EXPECT_EQ(distribution({}).count, 0);
  EXPECT_DOUBLE_EQ(distribution({}).p50, 0);
}

// Sent at 1 s; a token after 100 ms, two more together 40 ms later, the last 20 ms after them.
RequestTiming four_tokens() {
  return {.sent_us = 1'000'000,
          .arrivals = {{1'100'000, 1}, {1'140'000, 2}, {1'160'000, 1}},
          .prompt_tokens = 30,
          .output_tokens = 4};
}

TEST(Measure, FollowsSglangsDefinitions) {
  std::vector<RequestTiming> requests = {four_tokens()};
  Measurement measured = measure(requests, 2.0, 4);
  EXPECT_DOUBLE_EQ(measured.ttft_ms.mean, 100);
  EXPECT_DOUBLE_EQ(measured.e2e_ms.mean, 160);
  EXPECT_DOUBLE_EQ(measured.tpot_ms.mean, 20) << "60 ms for 3 tokens";
  EXPECT_EQ(measured.itl_ms.count, 3);
  EXPECT_DOUBLE_EQ(measured.itl_ms.p99, 20) << "tokens that come together share their gap";
  EXPECT_DOUBLE_EQ(measured.per_s(measured.output_tokens), 2);
  EXPECT_DOUBLE_EQ(measured.concurrency, 0.08);
}

TEST(Measure, CountsAFailedRequestAsNothingElse) {
  RequestTiming failed = four_tokens();
  failed.failure = "the connection broke";
  std::vector<RequestTiming> requests = {failed, four_tokens(), failed};
  Measurement measured = measure(requests, 1.0, 1);
  EXPECT_EQ(measured.succeeded, 1);
  EXPECT_EQ(measured.failed, 2);
  EXPECT_EQ(measured.output_tokens, 4);
  EXPECT_EQ(measured.ttft_ms.count, 1);
  EXPECT_THAT(to_table(measured, "t"), HasSubstr("the connection broke"));
  EXPECT_EQ(to_json(measured).at("first_failure"), "the connection broke");
}

TEST(Measure, OneTokenHasNoTimePerToken) {
  std::vector<RequestTiming> requests = {
      {.sent_us = 0, .arrivals = {{5'000, 1}}, .prompt_tokens = 1, .output_tokens = 1}};
  Measurement measured = measure(requests, 1.0, 1);
  EXPECT_EQ(measured.tpot_ms.count, 0);
  EXPECT_EQ(measured.itl_ms.count, 0);
  EXPECT_DOUBLE_EQ(measured.e2e_ms.mean, 5);
}

TEST(Table, HasALineForEachFigure) {
  std::vector<RequestTiming> requests = {four_tokens()};
  std::string table = to_table(measure(requests, 2.0, 4), "Serving");
  EXPECT_THAT(table, HasSubstr("Output tokens/s                       2.00\n"));
  EXPECT_THAT(table, HasSubstr("Output tokens/s/GPU                   0.50\n"));
  EXPECT_THAT(table, HasSubstr("Time to first token (TTFT)          100.00      100.00      100.00      100.00\n"));
  EXPECT_THAT(table, Not(HasSubstr("Failed")));
}

TEST(Json, HasTheFiguresOfTheTable) {
  std::vector<RequestTiming> requests = {four_tokens()};
  auto values = to_json(measure(requests, 2.0, 4));
  EXPECT_DOUBLE_EQ(values.at("total_tokens_per_s").as_double(), 17);
  EXPECT_DOUBLE_EQ(values.at("total_tokens_per_s_per_gpu").as_double(), 4.25);
  EXPECT_DOUBLE_EQ(values.at("tpot_ms").at("p50").as_double(), 20);
}

}  // namespace
}  // namespace hylas
