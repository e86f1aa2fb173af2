#include "evaluate/token_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;

std::string generate_event(int tokens, const char* finish = "null") {
  return fmt::format(R"({{"text":"x","meta_info":{{"prompt_tokens":5,"completion_tokens":{},"finish_reason":{}}}}})",
                     tokens, finish);
}

std::string chunk(const char* text, const char* usage) {
  return fmt::format(R"({{"choices":[{{"index":0,"text":"{}"}}],"usage":{}}})", text, usage);
}

TEST(TokenStream, TimesTheTokensOfGenerate) {
  RequestTiming timing;
  TokenStream stream(Api::kGenerate, timing);
  EXPECT_TRUE(stream.push(generate_event(1), 100));
  EXPECT_TRUE(stream.push(generate_event(1), 150)) << "nothing new";
  EXPECT_TRUE(stream.push(generate_event(3, R"({"type":"length","length":3})"), 200));
  EXPECT_FALSE(stream.push("[DONE]", 201));
  stream.end();
  EXPECT_EQ(timing.failure, "");
  ASSERT_EQ(timing.arrivals.size(), 2u);
  EXPECT_EQ(timing.arrivals[1].at_us, 200);
  EXPECT_EQ(timing.arrivals[1].tokens, 2);
  EXPECT_EQ(timing.output_tokens, 3);
  EXPECT_EQ(timing.prompt_tokens, 5);
}

TEST(TokenStream, TimesTheTokensOfCompletions) {
  RequestTiming timing;
  TokenStream stream(Api::kCompletions, timing);
  stream.push(chunk("a", R"({"prompt_tokens":5,"completion_tokens":1})"), 100);
  stream.push(chunk("bc", R"({"prompt_tokens":5,"completion_tokens":3})"), 200);
  stream.push(R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}})", 300);
  stream.push("[DONE]", 300);
  stream.end();
  EXPECT_EQ(timing.failure, "");
  ASSERT_EQ(timing.arrivals.size(), 2u) << "the usage at the end brings no token";
  EXPECT_EQ(timing.arrivals[1].at_us, 200);
  EXPECT_EQ(timing.output_tokens, 3);
}

TEST(TokenStream, CountsChunksOfAServerThatSendsUsageOnlyAtTheEnd) {
  RequestTiming timing;
  TokenStream stream(Api::kCompletions, timing);
  stream.push(chunk("a", "null"), 100);
  stream.push(chunk("", "null"), 150);
  stream.push(chunk("b", "null"), 200);
  EXPECT_EQ(timing.output_tokens, 2);
  stream.push(R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4}})", 300);
  stream.push("[DONE]", 300);
  stream.end();
  EXPECT_EQ(timing.failure, "");
  EXPECT_EQ(timing.arrivals.size(), 2u);
  EXPECT_EQ(timing.output_tokens, 4);
}

TEST(TokenStream, FailsWhenTheServerSaysSo) {
  RequestTiming timing;
  TokenStream stream(Api::kGenerate, timing);
  stream.push(generate_event(1), 100);
  EXPECT_FALSE(stream.push(R"({"error":{"message":"out of memory"}})", 200));
  stream.end();
  EXPECT_THAT(timing.failure, HasSubstr("out of memory"));
}

TEST(TokenStream, FailsWhenTheRequestWasAborted) {
  RequestTiming timing;
  TokenStream stream(Api::kGenerate, timing);
  EXPECT_FALSE(stream.push(generate_event(1, R"({"type":"abort","message":"aborted"})"), 100));
  stream.end();
  EXPECT_THAT(timing.failure, HasSubstr("aborted"));
}

TEST(TokenStream, FailsWhenTheStreamIsCutOff) {
  RequestTiming timing;
  TokenStream stream(Api::kGenerate, timing);
  stream.push(generate_event(2), 100);
  stream.end();
  EXPECT_THAT(timing.failure, HasSubstr("after 2 tokens without [DONE]"));
}

TEST(TokenStream, FailsOnAnEventOfAnotherForm) {
  for (const char* data : {"{", "{}", R"({"meta_info":{}})", R"({"meta_info":{"completion_tokens":"3"}})"}) {
    RequestTiming timing;
    TokenStream stream(Api::kGenerate, timing);
    EXPECT_FALSE(stream.push(data, 1)) << data;
    EXPECT_NE(timing.failure, "") << data;
  }
}

}  // namespace
}  // namespace hylas
