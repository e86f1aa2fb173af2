#include "text/reasoning_parser.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

void expect_split(std::string_view text, bool starts_in_reasoning, const std::string& reasoning,
                  const std::string& content) {
  ReasoningSplit split = split_reasoning(text, starts_in_reasoning);
  EXPECT_EQ(split.reasoning, reasoning) << text;
  EXPECT_EQ(split.content, content) << text;
}

TEST(ReasoningParser, ThePromptMayHaveOpenedTheThinking) {
  EXPECT_TRUE(prompt_opens_thinking("<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(prompt_opens_thinking("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
  EXPECT_FALSE(prompt_opens_thinking("<|im_start|>assistant\n"));
  expect_split("I think.\n</think>\n\nThe answer.", true, "I think.", "The answer.");
  expect_split("<think>\nI think.\n</think>\n\nThe answer.", true, "I think.", "The answer.");
}

TEST(ReasoningParser, OrTheOutputOpensIt) {
  expect_split("<think>a</think>b", false, "a", "b");
  expect_split("\n <think>\na b\n\n</think>\n\nc\n", false, "a b", "c\n");
  expect_split("no thinking <think>here</think>", false, "", "no thinking <think>here</think>");
  expect_split("  indented answer", false, "", "  indented answer");
}

TEST(ReasoningParser, AToolCallClosesIt) {
  expect_split("let me call\n<tool_call>\n<function=f>", true, "let me call", "<tool_call>\n<function=f>");
}

TEST(ReasoningParser, WithoutAnEndEverythingIsReasoning) {
  expect_split("cut short </thi", true, "cut short </thi", "");
  expect_split("", true, "", "");
  expect_split(" \n", true, "", "");
  expect_split("</think>\n\n", true, "", "");
}

TEST(ReasoningParser, HoldsBackPartialTags) {
  ReasoningParser parser(true);
  EXPECT_EQ(parser.push("a </th").reasoning, "a");
  EXPECT_EQ(parser.push("x").reasoning, " </thx");
  EXPECT_TRUE(parser.in_reasoning());
  EXPECT_EQ(parser.push("</think>").content, "");
  EXPECT_FALSE(parser.in_reasoning());
  EXPECT_EQ(parser.push("\n\n").content, "");
  EXPECT_EQ(parser.push("b </think>").content, "b </think>");
}

TEST(ReasoningParser, NoCutOfTheTextChangesTheResult) {
  for (const std::string text : {"<think>\nab  c\n</think>\n\nd <e", "\n<think>x<tool_call>y", "a</think>b</think>c",
                                 " \n<think>", "</thin</think>\n\n\nz", "<thi"}) {
    for (bool starts : {false, true}) {
      ReasoningSplit whole = split_reasoning(text, starts);
      for (size_t i = 0; i <= text.size(); ++i) {
        for (size_t j = i; j <= text.size(); ++j) {
          ReasoningParser parser(starts);
          ReasoningSplit total;
          for (std::string_view part : {std::string_view(text).substr(0, i), std::string_view(text).substr(i, j - i),
                                        std::string_view(text).substr(j)}) {
            ReasoningSplit split = parser.push(part);
            total.reasoning += split.reasoning, total.content += split.content;
          }
          ReasoningSplit rest = parser.finish();
          EXPECT_EQ(total.reasoning + rest.reasoning, whole.reasoning) << text << ' ' << i << ' ' << j;
          EXPECT_EQ(total.content + rest.content, whole.content) << text << ' ' << i << ' ' << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace hylas
