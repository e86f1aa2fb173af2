// /v1/chat/completions over a fake engine: the shapes of whole and streamed answers.
#include "serve/serve_fixture.h"

namespace hylas::test {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::parse;
using boost::json::value;

class ChatTest : public ServeTest {
 protected:
  // A chat without thinking; `more` are further fields of the body.
  static object body(object more = {}) {
    object result{{"messages", array{object{{"role", "user"}, {"content", "Hello"}}}},
                  {"chat_template_kwargs", object{{"enable_thinking", false}}}};
    for (auto& [key, field] : more) result[key] = field;
    return result;
  }
  static object weather_tools() {
    return parse(R"({"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
      "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]})")
        .as_object();
  }
  static std::string joined(const Answer& answer, std::string_view key) {
    std::string text;
    for (const value& event : answer.events) {
      if (event.at("choices").as_array().empty()) continue;
      const object& delta = event.at("choices").at(0).at("delta").as_object();
      if (const value* found = delta.if_contains(key)) text += std::string(found->as_string());
    }
    return text;
  }
  static const char* kCall;
};

const char* ChatTest::kCall =
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
    "</function>\n</tool_call>";

TEST_F(ChatTest, WholeAnswer) {
  script("Hi there!");
  Answer answer = post("/v1/chat/completions", body());
  ASSERT_EQ(answer.status, 200) << answer.body;
  object json = answer.json();
  EXPECT_EQ(json.at("object"), "chat.completion");
  EXPECT_EQ(json.at("model"), "fake");
  EXPECT_TRUE(std::string(json.at("id").as_string()).starts_with("chatcmpl-"));
  const value& choice = json.at("choices").at(0);
  EXPECT_EQ(choice.at("message"), parse(R"({"role": "assistant", "content": "Hi there!", "reasoning_content": null,
                                            "tool_calls": null})"));
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_EQ(choice.at("matched_stop"), end_token(*text_.tokenizer));
  int64_t generated = int64_t(encode("Hi there!").size()) + 1;
  EXPECT_EQ(json.at("usage").at("completion_tokens"), generated);
  EXPECT_EQ(json.at("usage").at("prompt_tokens").as_int64() + generated, json.at("usage").at("total_tokens"));
}

TEST_F(ChatTest, DefaultLengthIsTheRestOfTheContext) {
  post("/v1/chat/completions", body());
  Request request = engine_->requests().at(0);
  EXPECT_EQ(request.sampling.max_new_tokens, engine_->info().context_length - int32_t(request.prompt.size()));
}

TEST_F(ChatTest, StreamBeginsWithTheRoleAndEndsWithTheReason) {
  script("Hi there!");
  Answer answer = post("/v1/chat/completions", body({{"stream", true}}));
  EXPECT_EQ(answer.content_type, "text/event-stream");
  ASSERT_GE(answer.events.size(), 3u);
  EXPECT_EQ(answer.events[0].at("object"), "chat.completion.chunk");
  EXPECT_EQ(answer.events[0].at("choices").at(0).at("delta"), parse(R"({"role": "assistant", "content": ""})"));
  EXPECT_EQ(joined(answer, "content"), "Hi there!");
  const value& last = answer.events.back().at("choices").at(0);
  EXPECT_EQ(last.at("delta"), object());
  EXPECT_EQ(last.at("finish_reason"), "stop");
  EXPECT_EQ(last.at("matched_stop"), end_token(*text_.tokenizer));
  EXPECT_TRUE(answer.done);
  for (const value& event : answer.events) EXPECT_FALSE(event.as_object().contains("usage"));
}

TEST_F(ChatTest, StreamedUsage) {
  script("Hi there!");
  Answer answer = post("/v1/chat/completions", body({{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  const value& last = answer.events.back();
  EXPECT_EQ(last.at("choices"), array());
  EXPECT_EQ(last.at("usage").at("completion_tokens"), int64_t(encode("Hi there!").size()) + 1);

  object continuous{{"include_usage", true}, {"continuous_usage_stats", true}};
  answer = post("/v1/chat/completions", body({{"stream", true}, {"stream_options", continuous}}));
  for (const value& event : answer.events) EXPECT_TRUE(event.as_object().contains("usage"));
}

TEST_F(ChatTest, ReasoningIsSplitOff) {
  script("Let me think.\n</think>\n\nForty-two.");
  object thinking{{"chat_template_kwargs", object{{"enable_thinking", true}}}};
  object message = post("/v1/chat/completions", body(thinking)).json().at("choices").at(0).at("message").as_object();
  EXPECT_EQ(message.at("reasoning_content"), "Let me think.");
  EXPECT_EQ(message.at("content"), "Forty-two.");

  thinking["stream"] = true;
  Answer answer = post("/v1/chat/completions", body(thinking));
  EXPECT_EQ(joined(answer, "reasoning_content"), "Let me think.");
  EXPECT_EQ(joined(answer, "content"), "Forty-two.");

  thinking["stream_reasoning"] = false;
  answer = post("/v1/chat/completions", body(thinking));
  int pieces = 0;
  for (const value& event : answer.events) {
    pieces += event.at("choices").at(0).at("delta").as_object().contains("reasoning_content");
  }
  EXPECT_EQ(pieces, 1);
  EXPECT_EQ(joined(answer, "reasoning_content"), "Let me think.");
}

TEST_F(ChatTest, ReasoningStaysInTheTextWhenAskedTo) {
  script("Hm.\n</think>\n\nYes.");
  object fields{{"chat_template_kwargs", object{{"enable_thinking", true}}}, {"separate_reasoning", false}};
  object message = post("/v1/chat/completions", body(fields)).json().at("choices").at(0).at("message").as_object();
  EXPECT_EQ(message.at("content"), "Hm.\n</think>\n\nYes.");
  EXPECT_EQ(message.at("reasoning_content"), nullptr);
}

TEST_F(ChatTest, ReasoningEffortNoneTurnsThinkingOff) {
  object fields{{"messages", array{object{{"role", "user"}, {"content", "Hello"}}}}, {"reasoning_effort", "none"}};
  post("/v1/chat/completions", fields);
  post("/v1/chat/completions", body());
  EXPECT_EQ(engine_->requests().at(0).prompt, engine_->requests().at(1).prompt);
}

TEST_F(ChatTest, ToolCallsOfAWholeAnswer) {
  script(kCall);
  object choice = post("/v1/chat/completions", body(weather_tools())).json().at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
  EXPECT_EQ(choice.at("message").at("content"), nullptr);
  const value& call = choice.at("message").at("tool_calls").at(0);
  EXPECT_EQ(call.at("type"), "function");
  EXPECT_EQ(call.at("function").at("name"), "get_weather");
  EXPECT_EQ(parse(call.at("function").at("arguments").as_string()), parse(R"({"city": "Paris", "days": 3})"));
}

TEST_F(ChatTest, StreamedToolCallsGiveTheNameFirst) {
  script(kCall);
  object fields = weather_tools();
  fields["stream"] = true;
  Answer answer = post("/v1/chat/completions", body(fields));
  std::string arguments;
  int names = 0;
  for (const value& event : answer.events) {
    const object& delta = event.at("choices").at(0).at("delta").as_object();
    if (!delta.contains("tool_calls")) continue;
    const value& call = delta.at("tool_calls").at(0);
    EXPECT_EQ(call.at("index"), 0);
    const object& function = call.at("function").as_object();
    if (function.contains("name")) {
      ++names;
      EXPECT_EQ(arguments, "");
      EXPECT_TRUE(std::string(call.at("id").as_string()).starts_with("call_"));
    }
    arguments += std::string(function.at("arguments").as_string());
  }
  EXPECT_EQ(names, 1);
  EXPECT_EQ(parse(arguments), parse(R"({"city": "Paris", "days": 3})"));
  EXPECT_EQ(answer.events.back().at("choices").at(0).at("finish_reason"), "tool_calls");
}

TEST_F(ChatTest, ToolChoiceNoneHidesTheTools) {
  script("Hi");
  object fields = weather_tools();
  fields["tool_choice"] = "none";
  post("/v1/chat/completions", body(fields));
  post("/v1/chat/completions", body());
  EXPECT_EQ(engine_->requests().at(0).prompt, engine_->requests().at(1).prompt);
}

TEST_F(ChatTest, ARequiredCallIsConstrained) {
  script(kCall);
  for (value choice : {value("required"), parse(R"({"type": "function", "function": {"name": "get_weather"}})")}) {
    object fields = weather_tools();
    fields["tool_choice"] = choice;
    Answer answer = post("/v1/chat/completions", body(fields));
    ASSERT_EQ(answer.status, 200) << answer.body;
    EXPECT_NE(engine_->requests().back().grammar, nullptr);
  }
}

TEST_F(ChatTest, ARequiredCallNeedsTheParser) {
  options_.tool_call_parser = false;
  object fields = weather_tools();
  fields["tool_choice"] = "required";
  Answer answer = post("/v1/chat/completions", body(fields));
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.error().find("--tool-call-parser qwen3_coder"), std::string::npos);
}

TEST_F(ChatTest, StopStringEndsTextAndEngineWork) {
  script("one two three");
  engine_->set_endless(true);
  object choice = post("/v1/chat/completions", body({{"stop", array{"two"}}})).json().at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("message").at("content"), "one ");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_EQ(choice.at("matched_stop"), "two");
  EXPECT_TRUE(engine_->wait_until_idle());

  choice = post("/v1/chat/completions", body({{"stop", "two"}, {"no_stop_trim", true}}))
               .json()
               .at("choices")
               .at(0)
               .as_object();
  EXPECT_EQ(choice.at("message").at("content"), "one two");
}

TEST_F(ChatTest, LengthIsAFinishReason) {
  script("one two three");
  object choice = post("/v1/chat/completions", body({{"max_tokens", 2}})).json().at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_EQ(choice.at("matched_stop"), nullptr);
  EXPECT_EQ(engine_->requests().at(0).sampling.max_new_tokens, 2);
}

TEST_F(ChatTest, LogprobsOfEveryToken) {
  script("Hi there!");
  object fields{{"logprobs", true}, {"top_logprobs", 2}};
  object whole = post("/v1/chat/completions", body(fields)).json();
  array logprobs = whole.at("choices").at(0).at("logprobs").at("content").as_array();
  EXPECT_EQ(int64_t(logprobs.size()), whole.at("usage").at("completion_tokens").as_int64());
  std::string text;
  for (const value& token : logprobs) {
    EXPECT_EQ(token.at("logprob"), -0.5);
    EXPECT_EQ(token.at("top_logprobs").as_array().size(), 2u);
    for (const value& byte : token.at("bytes").as_array()) text += char(byte.as_int64());
  }
  EXPECT_EQ(text, "Hi there!<|im_end|>");

  fields["stream"] = true;
  array streamed;
  for (const value& event : post("/v1/chat/completions", body(fields)).events) {
    const value& part = event.at("choices").at(0).at("logprobs");
    if (!part.is_null()) {
      for (const value& token : part.at("content").as_array()) streamed.push_back(token);
    }
  }
  EXPECT_EQ(streamed, logprobs);
}

TEST_F(ChatTest, CopiesHaveTheirOwnSeeds) {
  script("Hi");
  object json = post("/v1/chat/completions", body({{"n", 3}, {"seed", 7}})).json();
  ASSERT_EQ(json.at("choices").as_array().size(), 3u);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(engine_->requests().at(i).sampling.seed, 7 + i);
    EXPECT_EQ(json.at("choices").at(i).at("index"), int64_t(i));
  }
  int64_t each = int64_t(encode("Hi").size()) + 1;
  EXPECT_EQ(json.at("usage").at("completion_tokens"), 3 * each);
  EXPECT_EQ(json.at("usage").at("prompt_tokens"), int64_t(engine_->requests().at(0).prompt.size()));
}

TEST_F(ChatTest, ADisconnectStopsTheEngine) {
  script("on and on");
  engine_->set_endless(true);
  engine_->set_token_wait_us(1000);
  engine_->mutable_info().context_length = 1 << 20;
  auto reply = begin("/v1/chat/completions", body({{"stream", true}, {"n", 2}}));
  ASSERT_TRUE(reply->wait_for_bytes(1000));
  reply->disconnect();
  EXPECT_TRUE(engine_->wait_until_idle());
  EXPECT_EQ(engine_->stats().aborted_total, 2u);
}

TEST_F(ChatTest, AnEngineFailureIsAnError) {
  engine_->set_failure("the device is gone");
  Answer answer = post("/v1/chat/completions", body());
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.error(), "the device is gone");
  answer = post("/v1/chat/completions", body({{"stream", true}}));
  EXPECT_EQ(answer.events.back().at("error").at("message"), "the device is gone");
  EXPECT_TRUE(answer.done);
}

}  // namespace
}  // namespace hylas::test
