#include "evaluate/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hylas {
namespace {

using testing::AllOf;
using testing::Each;
using testing::Ge;
using testing::HasSubstr;
using testing::Lt;

const std::vector<int32_t>& ids_of(const Task& task) { return std::get<std::vector<int32_t>>(task.prompt); }

TEST(RandomTasks, KeepFixedLengthsAtRatioOne) {
  RandomShape shape{.prompts = 20, .input_tokens = 50, .output_tokens = 7, .range_ratio = 1, .vocabulary = 100};
  for (const Task& task : random_tasks(shape, 42)) {
    EXPECT_EQ(ids_of(task).size(), 50u);
    EXPECT_EQ(task.output_tokens_max, 7);
    EXPECT_TRUE(task.ignore_eos);
    EXPECT_THAT(ids_of(task), Each(AllOf(Ge(0), Lt(100))));
  }
}

TEST(RandomTasks, DrawLengthsFromTheWholeRange) {
  RandomShape shape{.prompts = 2000, .input_tokens = 10, .output_tokens = 4, .range_ratio = 0.5, .vocabulary = 9};
  std::vector<int> seen(11);
  for (const Task& task : random_tasks(shape, 42)) ++seen[ids_of(task).size()];
  for (int length = 0; length <= 10; ++length) EXPECT_EQ(seen[size_t(length)] > 0, length >= 5) << length;
}

TEST(RandomTasks, AreAtLeastOneTokenLong) {
  RandomShape shape{.prompts = 200, .input_tokens = 2, .output_tokens = 2, .range_ratio = 0, .vocabulary = 9};
  for (const Task& task : random_tasks(shape, 42)) {
    EXPECT_GE(ids_of(task).size(), 1u);
    EXPECT_GE(task.output_tokens_max, 1);
  }
}

TEST(RandomTasks, DependOnTheSeedAlone) {
  RandomShape shape{.prompts = 5, .input_tokens = 30, .vocabulary = 1000};
  EXPECT_EQ(ids_of(random_tasks(shape, 1)[4]), ids_of(random_tasks(shape, 1)[4]));
  EXPECT_NE(ids_of(random_tasks(shape, 1)[4]), ids_of(random_tasks(shape, 2)[4]));
}

TEST(ParseTasks, TakesTextsAndTokenIds) {
  auto tasks = parse_tasks("{\"prompt\":\"Hello\"}\n{\"prompt\":[1,2],\"output_tokens\":9}\n", "d.jsonl", 2, 5, false);
  ASSERT_TRUE(tasks.ok());
  EXPECT_EQ(std::get<std::string>((*tasks)[0].prompt), "Hello");
  EXPECT_EQ((*tasks)[0].output_tokens_max, 5);
  EXPECT_EQ(ids_of((*tasks)[1]), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ((*tasks)[1].output_tokens_max, 9);
  EXPECT_FALSE((*tasks)[1].ignore_eos);
}

TEST(ParseTasks, BeginsAnewWhenTheLinesRunOut) {
  auto tasks = parse_tasks("{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n", "d.jsonl", 5, 5, true);
  ASSERT_TRUE(tasks.ok());
  std::string order;
  for (const Task& task : *tasks) order += std::get<std::string>(task.prompt);
  EXPECT_EQ(order, "ababa");
}

TEST(ParseTasks, NamesTheLineThatIsMalformed) {
  for (const char* line : {"{", "{}", "{\"prompt\":[\"x\"]}", "{\"prompt\":\"x\",\"output_tokens\":0}"}) {
    auto tasks = parse_tasks(std::string("{\"prompt\":\"a\"}\n\n") + line, "d.jsonl", 5, 5, true);
    ASSERT_FALSE(tasks.ok()) << line;
    EXPECT_THAT(tasks.error().message, HasSubstr("d.jsonl line 3"));
  }
  EXPECT_THAT(parse_tasks("\n", "d.jsonl", 5, 5, true).error().message, HasSubstr("no prompts"));
}

// Mean and variance of the gaps, in units of the mean gap.
std::pair<double, double> gap_moments(double burstiness) {
  constexpr int kCount = 20001;
  std::vector<double> times = arrival_times_s(kCount, 4.0, burstiness, 42);
  double sum = 0, squares = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    double gap = (times[i] - times[i - 1]) * 4.0;
    sum += gap;
    squares += gap * gap;
  }
  double mean = sum / (kCount - 1);
  return {mean, squares / (kCount - 1) - mean * mean};
}

TEST(ArrivalTimes, HaveTheRateAndTheBurstinessAskedFor) {
  for (double burstiness : {0.25, 1.0, 4.0}) {
    auto [mean, variance] = gap_moments(burstiness);
    EXPECT_NEAR(mean, 1, 0.05) << burstiness;
    EXPECT_NEAR(variance * burstiness, 1, 0.1) << burstiness;
  }
}

TEST(ArrivalTimes, StartAtZeroAndNeverGoBack) {
  std::vector<double> times = arrival_times_s(100, 10, 1, 7);
  EXPECT_EQ(times.front(), 0);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_EQ(times, arrival_times_s(100, 10, 1, 7));
}

TEST(ArrivalTimes, AreAllZeroAtAnInfiniteRate) {
  EXPECT_THAT(arrival_times_s(5, std::numeric_limits<double>::infinity(), 1, 42), Each(0));
}

}  // namespace
}  // namespace hylas
