#include "evaluate/gsm8k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;

TEST(Gsm8k, PromptIsTheShotsThenTheQuestion) {
  std::vector<Question> shots = {{"1 + 1?", "It is 2.\n#### 2"}, {"2 + 2?", "#### 4"}};
  EXPECT_EQ(few_shot_prompt(shots, {"3 + 3?", "#### 6"}),
            "Question: 1 + 1?\nAnswer: It is 2.\n#### 2\n\n"
            "Question: 2 + 2?\nAnswer: #### 4\n\n"
            "Question: 3 + 3?\nAnswer:");
}

TEST(Gsm8k, TheAnswerIsTheLastRunOfDigits) {
  EXPECT_EQ(final_number("There are 12 pens.\n#### 31"), "31");
  EXPECT_EQ(final_number("#### 1,234,567"), "1234567");
  EXPECT_EQ(final_number("so -18 dollars"), "18");
  EXPECT_EQ(final_number("3.50"), "50");
  EXPECT_EQ(final_number("7"), "7");
  EXPECT_EQ(final_number("00"), "0");
}

TEST(Gsm8k, TextWithoutAPythonIntegerIsInvalid) {
  EXPECT_FALSE(final_number(""));
  EXPECT_FALSE(final_number("I do not know that."));
  EXPECT_FALSE(final_number("3.05"));
}

TEST(Gsm8k, ReadsALineForEachQuestion) {
  auto questions = parse_questions(
      "{\"question\":\"q1\",\"answer\":\"#### 1\"}\n\n"
      "{\"question\":\"q2\",\"answer\":\"#### 2\"}\r\n",
      "test.jsonl");
  ASSERT_TRUE(questions.ok());
  ASSERT_EQ(questions->size(), 2u);
  EXPECT_EQ((*questions)[1].question, "q2");
}

TEST(Gsm8k, NamesTheLineThatIsMalformed) {
  const std::string good = "{\"question\":\"q\",\"answer\":\"#### 1\"}\n";
  struct Case {
    const char* line;
    const char* says;
  } const cases[] = {{"{\"question\":", "line 3"},
                     {"{\"question\":\"q\"}", "`answer`"},
                     {"{\"question\":7,\"answer\":\"1\"}", "`question`"},
                     {"{\"question\":\"q\",\"answer\":\"none\"}", "no number"}};
  for (const Case& one : cases) {
    auto questions = parse_questions(good + good + one.line, "test.jsonl");
    ASSERT_FALSE(questions.ok()) << one.line;
    EXPECT_EQ(questions.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(questions.error().message, HasSubstr("test.jsonl line 3"));
    EXPECT_THAT(questions.error().message, HasSubstr(one.says));
  }
}

}  // namespace
}  // namespace hylas
