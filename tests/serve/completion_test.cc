// /v1/completions over a fake engine.
#include "serve/serve_fixture.h"

namespace hylas::test {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

using CompletionTest = ServeTest;

TEST_F(CompletionTest, WholeAnswer) {
  script(" world");
  object json = post("/v1/completions", {{"prompt", "Hello"}}).json();
  EXPECT_EQ(json.at("object"), "text_completion");
  const value& choice = json.at("choices").at(0);
  EXPECT_EQ(choice.at("text"), " world");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_EQ(choice.at("logprobs"), nullptr);
  EXPECT_EQ(engine_->requests().at(0).prompt, encode("Hello"));
}

TEST_F(CompletionTest, StreamJoinsToTheWholeAnswer) {
  script(" world and more");
  Answer answer =
      post("/v1/completions", {{"prompt", "Hello"}, {"stream", true}, {"stream_options", {{"include_usage", true}}}});
  std::string text;
  for (const value& event : answer.events) {
    if (event.at("choices").as_array().empty()) continue;
    text += std::string(event.at("choices").at(0).at("text").as_string());
  }
  EXPECT_EQ(text, " world and more");
  EXPECT_EQ(answer.events.back().at("usage").at("prompt_tokens"), int64_t(encode("Hello").size()));
  EXPECT_EQ(answer.events[answer.events.size() - 2].at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_TRUE(answer.done);
}

TEST_F(CompletionTest, PromptsAndCopiesAreNumbered) {
  engine_->set_script([](const Request& request) { return request.prompt; });  // echoes
  object json = post("/v1/completions", {{"prompt", array{"one", "two"}}, {"n", 2}}).json();
  const array& choices = json.at("choices").as_array();
  ASSERT_EQ(choices.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(choices[i].at("index"), int64_t(i));
    EXPECT_EQ(choices[i].at("text"), i < 2 ? "one" : "two");
  }
  EXPECT_EQ(json.at("usage").at("prompt_tokens"), int64_t(encode("one").size() + encode("two").size()));
}

TEST_F(CompletionTest, EchoWithLogprobsCoversThePrompt) {
  script(" world");
  object json = post("/v1/completions", {{"prompt", "Hello there"}, {"echo", true}, {"logprobs", 1}}).json();
  const value& choice = json.at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "Hello there world");
  const object& logprobs = choice.at("logprobs").as_object();
  size_t tokens = encode("Hello there").size() + encode(" world").size() + 1;
  for (const char* key : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
    EXPECT_EQ(logprobs.at(key).as_array().size(), tokens) << key;
  }
  EXPECT_EQ(logprobs.at("token_logprobs").at(0), nullptr);
  EXPECT_EQ(logprobs.at("token_logprobs").at(1), -1.5);
  EXPECT_EQ(logprobs.at("token_logprobs").as_array().back(), -0.5);
  EXPECT_EQ(logprobs.at("text_offset").at(0), 0);
}

TEST_F(CompletionTest, TooLongAPromptNamesBothLengths) {
  engine_->mutable_info().context_length = 4;
  Answer answer = post("/v1/completions", {{"prompt", array{1, 2, 3, 4, 5}}});
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.error_param(), "prompt");
  EXPECT_NE(answer.error().find("the prompt has 5 tokens, and the context of 4 tokens"), std::string::npos)
      << answer.error();
}

TEST_F(CompletionTest, TheReplyEndsWithTheContext) {
  engine_->mutable_info().context_length = 8;
  post("/v1/completions", {{"prompt", array{1, 2, 3, 4, 5}}, {"max_tokens", 100}});
  EXPECT_EQ(engine_->requests().at(0).sampling.max_new_tokens, 3);
}

TEST_F(CompletionTest, ABadGrammarIsTheClientsError) {
  Answer answer = post("/v1/completions", {{"prompt", "x"}, {"regex", "("}});
  EXPECT_EQ(answer.status, 400) << answer.body;
}

TEST_F(CompletionTest, RandomSeedGivesSeedsInOrder) {
  options_.random_seed = 100;
  post("/v1/completions", {{"prompt", "x"}});
  post("/v1/completions", {{"prompt", "x"}, {"seed", 5}});
  post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(engine_->requests().at(0).sampling.seed, 100u);
  EXPECT_EQ(engine_->requests().at(1).sampling.seed, 5u);
  EXPECT_EQ(engine_->requests().at(2).sampling.seed, 101u);
}

TEST_F(CompletionTest, AStoppingEngineIsUnavailable) {
  engine_->drain(0);
  Answer answer = post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(answer.status, 503);
}

}  // namespace
}  // namespace hylas::test
