#include "evaluate/gsm8k_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

namespace hylas {
namespace {

using testing::HasSubstr;

std::vector<Question> numbered_questions(int count) {
  std::vector<Question> questions;
  for (int i = 1; i <= count; ++i) questions.push_back({fmt::format("q{}?", i), fmt::format("#### {}", i)});
  return questions;
}

// The number that the prompt's last question asks for.
std::string echo(const std::string& prompt) {
  size_t at = prompt.rfind("Question: q") + 11;
  return prompt.substr(at, prompt.find('?', at) - at);
}

TEST(Gsm8kRun, AsksEveryQuestionOnceAndCounts) {
  auto questions = numbered_questions(40);
  std::vector<int> recorded(questions.size());
  auto ask = [](const std::string& prompt) -> Result<Completion> {
    int number = std::stoi(echo(prompt));
    if (number <= 4) return Completion{"no idea", 2};
    return Completion{number <= 10 ? "#### 99" : fmt::format("#### {}", number), 3};
  };
  auto summary = run_gsm8k(questions, {}, 8, ask, [&](const GradedAnswer& answer) { ++recorded[answer.index]; });
  EXPECT_THAT(recorded, testing::Each(1));
  EXPECT_EQ(summary.answered, 40);
  EXPECT_EQ(summary.correct, 30);
  EXPECT_EQ(summary.invalid, 4);
  EXPECT_EQ(summary.output_tokens, 4 * 2 + 36 * 3);
  EXPECT_THAT(to_text(summary), HasSubstr("Accuracy: 0.750\nInvalid: 0.100\nLatency: "));
  EXPECT_EQ(to_json(summary).at("summary").at("complete"), true);
}

TEST(Gsm8kRun, PutsTheShotsBeforeTheQuestion) {
  auto questions = numbered_questions(1);
  std::vector<Question> shots = {{"first?", "#### 8"}};
  std::string asked;
  auto ask = [&](const std::string& prompt) -> Result<Completion> {
    asked = prompt;
    return Completion{"1", 1};
  };
  run_gsm8k(questions, shots, 64, ask, [](const GradedAnswer&) {});
  EXPECT_EQ(asked, few_shot_prompt(shots, questions[0]));
}

TEST(Gsm8kRun, AsksNothingMoreOnceTheServerHasFailed) {
  auto questions = numbered_questions(100);
  std::atomic<int> calls{0};
  auto ask = [&](const std::string& prompt) -> Result<Completion> {
    if (++calls > 10) return error(ErrorCode::kIo, "the server died");
    return Completion{echo(prompt), 1};
  };
  std::vector<boost::json::object> lines;
  auto summary = run_gsm8k(questions, {}, 4, ask, [&](const GradedAnswer& one) { lines.push_back(to_json(one)); });
  EXPECT_LE(calls, 14) << "at most the three others under way";
  EXPECT_EQ(summary.answered, 10);
  EXPECT_EQ(summary.correct, 10);
  ASSERT_TRUE(summary.failure);
  EXPECT_EQ(summary.failure->message, "the server died");
  EXPECT_EQ(std::count_if(lines.begin(), lines.end(), [](auto& line) { return line.contains("text"); }), 10);
  // In any order: an answer that was under way may come after the failure.
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(),
                          [](auto& line) { return line.contains("error") && line.at("error") == "the server died"; }));
  EXPECT_THAT(to_text(summary), HasSubstr("Incomplete: 10 of 100"));
  EXPECT_EQ(to_json(summary).at("summary").at("complete"), false);
}

}  // namespace
}  // namespace hylas
