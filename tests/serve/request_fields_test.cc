// What a request may say: every field, its range, and the error that names it.
#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/native_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ApiLimits limits() { return {.vocab_size = 1000}; }

std::string with_messages(const std::string& more) {
  return R"({"messages": [{"role": "user", "content": "x"}])" + (more.empty() ? "" : ", " + more) + "}";
}
std::string with_prompt(const std::string& more) {
  return R"({"prompt": "x")" + (more.empty() ? "" : ", " + more) + "}";
}

Result<ChatRequest> chat(const std::string& more) { return parse_chat(with_messages(more), limits()); }
Result<CompletionRequest> completion(const std::string& more) { return parse_completion(with_prompt(more), limits()); }
Result<NativeRequest> native(const std::string& body) { return parse_native(body, limits()); }
Result<NativeRequest> native_sampling(const std::string& params) {
  return native(R"({"text": "x", "sampling_params": {)" + params + "}}");
}

TEST(SamplingFields, AllAreRead) {
  auto request = chat(R"("temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "frequency_penalty": 1,
    "presence_penalty": -1, "repetition_penalty": 1.1, "logit_bias": {"5": -100, "7": 2.5}, "seed": 9,
    "stop": ["a", "b"], "stop_token_ids": [3, 4], "min_tokens": 2, "max_tokens": 10, "ignore_eos": true, "n": 2,
    "skip_special_tokens": false, "include_stop_str_in_output": true)");
  ASSERT_TRUE(request.ok()) << request.error().message;
  const GenerationRequest& generation = request->generation;
  const SamplingParams& sampling = generation.sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.9f);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_FLOAT_EQ(sampling.min_p, 0.1f);
  EXPECT_EQ(sampling.frequency_penalty, 1);
  EXPECT_EQ(sampling.presence_penalty, -1);
  EXPECT_FLOAT_EQ(sampling.repetition_penalty, 1.1f);
  ASSERT_EQ(sampling.logit_bias.size(), 2u);
  EXPECT_EQ(sampling.logit_bias[1].token, 7);
  EXPECT_EQ(sampling.logit_bias[1].bias, 2.5f);
  EXPECT_EQ(sampling.seed, 9u);
  EXPECT_THAT(generation.stop, ElementsAre("a", "b"));
  EXPECT_THAT(sampling.stop_token_ids, ElementsAre(3, 4));
  EXPECT_EQ(sampling.min_new_tokens, 2);
  EXPECT_EQ(generation.max_new_tokens, 10);
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(generation.n, 2);
  EXPECT_FALSE(generation.skip_special_tokens);
  EXPECT_TRUE(generation.include_stop);
}

TEST(SamplingFields, NativeNames) {
  auto request = native_sampling(R"("max_new_tokens": 5, "min_new_tokens": 2, "sampling_seed": 3, "stop": "x",
                                    "no_stop_trim": true, "n": 2)");
  ASSERT_TRUE(request.ok()) << request.error().message;
  const GenerationRequest& generation = request->items[0].generation;
  EXPECT_EQ(generation.max_new_tokens, 5);
  EXPECT_EQ(generation.sampling.min_new_tokens, 2);
  EXPECT_EQ(generation.sampling.seed, 3u);
  EXPECT_THAT(generation.stop, ElementsAre("x"));
  EXPECT_TRUE(generation.include_stop);
  EXPECT_TRUE(request->is_list);
}

TEST(SamplingFields, DefaultsAreTheModels) {
  ApiLimits model = limits();
  model.defaults.temperature = 0.7f;
  model.defaults.top_k = 20;
  auto request = parse_chat(with_messages(R"("top_k": -1)"), model);
  ASSERT_TRUE(request.ok());
  EXPECT_FLOAT_EQ(request->generation.sampling.temperature, 0.7f);
  EXPECT_EQ(request->generation.sampling.top_k, -1);
}

TEST(SamplingFields, DefaultLengths) {
  EXPECT_EQ(chat("")->generation.max_new_tokens, std::nullopt);
  EXPECT_EQ(completion("")->generation.max_new_tokens, 16);
  EXPECT_EQ(native(R"({"text": "x"})")->items[0].generation.max_new_tokens, 128);
  EXPECT_EQ(chat(R"("max_tokens": 5, "max_completion_tokens": 6)")->generation.max_new_tokens, 6);
}

TEST(SamplingFields, AVerySmallTemperatureIsGreedy) {
  EXPECT_EQ(chat(R"("temperature": 1e-9)")->generation.sampling.temperature, 0);
}

struct Bad {
  const char* fields;
  const char* message;
};

void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.fields; }

class BadChatField : public testing::TestWithParam<Bad> {};

TEST_P(BadChatField, IsNamed) {
  auto request = chat(GetParam().fields);
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(request.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Ranges, BadChatField,
    testing::Values(Bad{R"("temperature": -1)", "`temperature` must be at least 0, not -1"},
                    Bad{R"("temperature": "hot")", "`temperature` must be a number, not a string"},
                    Bad{R"("top_p": 0)", "`top_p` must be above 0 and at most 1, not 0"},
                    Bad{R"("top_p": 1.5)", "`top_p`"}, Bad{R"("min_p": 2)", "`min_p`"}, Bad{R"("top_k": 0)", "`top_k`"},
                    Bad{R"("top_k": -2)", "`top_k`"}, Bad{R"("top_k": 1.5)", "`top_k` must be an integer"},
                    Bad{R"("frequency_penalty": 3)", "`frequency_penalty`"},
                    Bad{R"("presence_penalty": -3)", "`presence_penalty`"},
                    Bad{R"("repetition_penalty": 0)", "`repetition_penalty`"},
                    Bad{R"("max_tokens": 0)", "`max_tokens` must be from 1"},
                    Bad{R"("max_tokens": -5)", "`max_tokens` must be from 1"},
                    Bad{R"("max_completion_tokens": 0)", "`max_completion_tokens`"},
                    Bad{R"("min_tokens": 9, "max_tokens": 3)", "`min_tokens` is 9, above"}, Bad{R"("n": 0)", "`n`"},
                    Bad{R"("n": 1000)", "`n` must be from 1 to 128"}, Bad{R"("seed": 1.5)", "`seed`"},
                    Bad{R"("stop": 5)", "`stop`"}, Bad{R"("stop": ["a", 5])", "`stop`"},
                    Bad{R"("stop": [""])", "`stop` has an empty string"},
                    Bad{R"("stop_token_ids": [1000])", "`stop_token_ids` has the token id 1000"},
                    Bad{R"("stop_token_ids": "x")", "`stop_token_ids`"},
                    Bad{R"("logit_bias": {"x": 1})", "\"x\" is no token id"},
                    Bad{R"("logit_bias": {"-1": 1})", "`logit_bias` has the token id -1"},
                    Bad{R"("logit_bias": {"1": 101})", "`logit_bias.1` must be a number from -100 to 100"},
                    Bad{R"("logit_bias": [1])", "`logit_bias` must be an object"},
                    Bad{R"("ignore_eos": 1)", "`ignore_eos` must be a boolean"},
                    Bad{R"("logprobs": true, "top_logprobs": 21)", "`top_logprobs` must be from 0 to 20"},
                    Bad{R"("top_logprobs": 2)", "`top_logprobs` needs logprobs: true"},
                    Bad{R"("logprobs": 3)", "`logprobs` must be a boolean"}, Bad{R"("stream": "yes")", "`stream`"},
                    Bad{R"("stream_options": {"include_usage": true})", "`stream_options` needs stream: true"},
                    Bad{R"("stream": true, "stream_options": {"usage": true})", "`stream_options.usage`"}));

INSTANTIATE_TEST_SUITE_P(
    Structured, BadChatField,
    testing::Values(Bad{R"("response_format": "json")", "`response_format` must be an object"},
                    Bad{R"("response_format": {"type": "xml"})", "`response_format.type`"},
                    Bad{R"("response_format": {"type": "structural_tag"})", "is not supported"},
                    Bad{R"("response_format": {"type": "json_schema"})", "`response_format.json_schema` is required"},
                    Bad{R"("response_format": {"type": "json_schema", "json_schema": {"name": "x"}})",
                        "`response_format.json_schema.schema` is required"},
                    Bad{R"("regex": "a+", "ebnf": "root ::= \"x\"")", "`ebnf` and `regex` both say"},
                    Bad{R"("regex": "")", "`regex` is empty"}, Bad{R"("regex": 1)", "`regex` must be a string"},
                    Bad{R"("json_schema": "{")", "`json_schema`: invalid JSON"},
                    Bad{R"("json_schema": 5)", "`json_schema` must be a JSON schema"}));

INSTANTIATE_TEST_SUITE_P(
    Tools, BadChatField,
    testing::Values(Bad{R"("tools": {})", "`tools` must be an array"},
                    Bad{R"("tools": [1])", "`tools[0]` must be an object"},
                    Bad{R"("tools": [{"type": "retrieval"}])", "`tools[0].type` must be function"},
                    Bad{R"("tools": [{"type": "function"}])", "`tools[0].function` is required"},
                    Bad{R"("tools": [{"function": {}}])", "`tools[0].function.name` is required"},
                    Bad{R"("tools": [{"function": {"name": "a b"}}])", "`tools[0].function.name` must be"},
                    Bad{R"("tools": [{"function": {"name": "f", "parameters": 3}}])", "`tools[0].function.parameters`"},
                    Bad{R"("tools": [{"function": {"name": "f"}}, {"function": {"name": "f"}}])",
                        "`tools[1]` has the name f again"},
                    Bad{R"("tool_choice": "required")", "`tool_choice` asks for a call, but there are no tools"},
                    Bad{R"("tool_choice": "maybe")", "`tool_choice` must be none, auto, required"},
                    Bad{R"("tool_choice": 3)", "`tool_choice` must be a string or an object"},
                    Bad{R"("tools": [{"function": {"name": "f"}}], "tool_choice": {"function": {"name": "g"}})",
                        "`tool_choice.function.name` is g, which is none of the tools"},
                    Bad{R"("tools": [{"function": {"name": "f"}}], "tool_choice": "required", "regex": "a")",
                        "`tool_choice` asks for a call, and another field"}));

INSTANTIATE_TEST_SUITE_P(
    Unknown, BadChatField,
    testing::Values(Bad{R"("temprature": 1)", "`temprature` is not a field that this server knows"},
                    Bad{R"("lora_path": "x")", "`lora_path` is not supported: this server has no LoRA adapters"},
                    Bad{R"("modalities": ["text", "audio"])", "`modalities` is not supported"},
                    Bad{R"("functions": [{}])", "`functions` is not supported: use tools"},
                    Bad{R"("custom_logit_processor": "x")", "`custom_logit_processor` is not supported"},
                    Bad{R"("chat_template_kwargs": 1)", "`chat_template_kwargs` must be an object"}));

TEST(Fields, WhatCannotMatterIsTaken) {
  EXPECT_TRUE(chat(R"("user": "me", "metadata": {"a": 1}, "store": false, "service_tier": "auto", "model": "any",
                      "lora_path": null, "modalities": ["text"], "return_hidden_states": false)")
                  .ok());
}

class BadMessages : public testing::TestWithParam<Bad> {};

TEST_P(BadMessages, AreNamed) {
  auto request = parse_chat(GetParam().fields, limits());
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(request.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, BadMessages,
    testing::Values(
        Bad{"", "the request body: invalid JSON"}, Bad{"{", "invalid JSON"},
        Bad{"[]", "the request body must be a JSON object"}, Bad{"{\"messages\": \"\xff\"}", "invalid JSON"},
        Bad{"{}", "`messages` is required"}, Bad{R"({"messages": {}})", "`messages` must be an array"},
        Bad{R"({"messages": []})", "`messages` is empty"},
        Bad{R"({"messages": [1]})", "`messages[0]` must be an object"},
        Bad{R"({"messages": [{"content": "x"}]})", "`messages[0].role` is required"},
        Bad{R"({"messages": [{"role": "robot", "content": "x"}]})", "`messages[0].role` must be system"},
        Bad{R"({"messages": [{"role": "user"}]})", "`messages[0].content` is required"},
        Bad{R"({"messages": [{"role": "user", "content": 5}]})", "`messages[0].content` must be a string"},
        Bad{R"({"messages": [{"role": "user", "content": ["x"]}]})", "`messages[0].content[0]` must be an object"},
        Bad{R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})",
            "`messages[0].content[0].text` is required"},
        Bad{R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]})",
            "`messages[0].content[0].type` is image_url: this server takes text parts only"},
        Bad{R"({"messages": [{"role": "assistant", "tool_calls": [{}]}]})",
            "`messages[0].tool_calls[0].function` is required"},
        Bad{R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}]})",
            "`messages[0].tool_calls[0].function.arguments` must be JSON text"}));

TEST(Messages, DeepNestingIsRefused) {
  std::string deep(100000, '[');
  auto request = parse_chat(R"({"messages": )" + deep, limits());
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(request.error().message, HasSubstr("nested more than 64 levels deep"));
}

TEST(Messages, DeveloperBecomesSystem) {
  auto request = parse_chat(
      R"({"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": "y"}]})", limits());
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->prompt.messages[0].at("role"), "system");
}

class BadCompletion : public testing::TestWithParam<Bad> {};

TEST_P(BadCompletion, IsNamed) {
  auto request = parse_completion(GetParam().fields, limits());
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(request.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadCompletion,
    testing::Values(Bad{"{}", "`prompt` is required"}, Bad{R"({"prompt": ""})", "`prompt` is empty"},
                    Bad{R"({"prompt": []})", "`prompt` is empty"}, Bad{R"({"prompt": 5})", "`prompt` must be a string"},
                    Bad{R"({"prompt": [1, "x"]})", "`prompt` must be an array of integers"},
                    Bad{R"({"prompt": [1000]})", "`prompt` has the token id 1000; ids are from 0 to 999"},
                    Bad{R"({"prompt": ["x", 5]})", "`prompt[1]` must be"},
                    Bad{R"({"prompt": [[]]})", "`prompt[0]` is empty"},
                    Bad{R"({"prompt": "x", "logprobs": 21})", "`logprobs` must be from 0 to 20"},
                    Bad{R"({"prompt": "x", "logprobs": true})", "`logprobs` must be an integer"},
                    Bad{R"({"prompt": "x", "best_of": 3})", "`best_of` is 3; only the value of n, 1, is supported"},
                    Bad{R"({"prompt": "x", "suffix": "y"})", "`suffix` is not supported"},
                    Bad{R"({"prompt": "x", "messages": []})", "`messages` is not a field"}));

TEST(CompletionPrompts, AllForms) {
  EXPECT_EQ(std::get<std::string>(completion("")->prompts.at(0)), "x");
  auto ids = parse_completion(R"({"prompt": [1, 2]})", limits());
  EXPECT_THAT(std::get<1>(ids->prompts.at(0)), ElementsAre(1, 2));
  auto texts = parse_completion(R"({"prompt": ["a", "b"]})", limits());
  EXPECT_EQ(texts->prompts.size(), 2u);
  auto lists = parse_completion(R"({"prompt": [[1], [2, 3]]})", limits());
  EXPECT_THAT(std::get<1>(lists->prompts.at(1)), ElementsAre(2, 3));
}

class BadNative : public testing::TestWithParam<Bad> {};

TEST_P(BadNative, IsNamed) {
  auto request = native(GetParam().fields);
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(request.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadNative,
    testing::Values(
        Bad{"{}", "`text` or `input_ids` is required"}, Bad{R"({"text": "x", "input_ids": [1]})", "only one of them"},
        Bad{R"({"text": [1, 2]})", "`text` must be a string or an array of strings"},
        Bad{R"({"input_ids": "x"})", "`input_ids` must be token ids"},
        Bad{R"({"text": "x", "sampling_params": 5})", "`sampling_params` must be an object"},
        Bad{R"({"text": ["x", "y"], "sampling_params": [{}]})", "`sampling_params` has 1 elements for 2 prompts"},
        Bad{R"({"text": "x", "sampling_params": {"max_tokens": 5}})", "`sampling_params.max_tokens` is not a field"},
        Bad{R"({"text": "x", "sampling_params": {"max_new_tokens": 0}})", "`sampling_params.max_new_tokens`"},
        Bad{R"({"text": "x", "sampling_params": {"stop_regex": "a"}})",
            "`sampling_params.stop_regex` is not supported"},
        Bad{R"({"text": "x", "temperature": 1})", "`temperature` is not a field"},
        Bad{R"({"text": "x", "image_data": "u"})", "`image_data` is not supported: this server takes text only"},
        Bad{R"({"text": "x", "input_embeds": [[1.0]]})", "`input_embeds` is not supported"},
        Bad{R"({"text": "x", "rid": 5})", "`rid` must be a string"},
        Bad{R"({"text": "x", "return_logprob": 1})", "`return_logprob` must be a boolean"},
        Bad{R"({"text": "x", "top_logprobs_num": 300})", "`top_logprobs_num` must be from 0 to 256"},
        Bad{R"({"text": "x", "logprob_start_len": -2})", "`logprob_start_len` must be from -1"}));

TEST(NativeFields, ListsGoToTheirItems) {
  auto request = native(R"({"text": ["a", "b"], "sampling_params": [{"n": 2}, {"top_k": 3}], "rid": ["r", "s"],
                            "return_logprob": [true, false], "logprob_start_len": 0, "top_logprobs_num": [2, 0]})");
  ASSERT_TRUE(request.ok()) << request.error().message;
  const NativeItem& first = request->items.at(0);
  const NativeItem& second = request->items.at(1);
  EXPECT_EQ(first.generation.n, 2);
  EXPECT_EQ(second.generation.sampling.top_k, 3);
  EXPECT_EQ(second.request_id, "s");
  EXPECT_EQ(first.generation.sampling.top_logprobs, 2);
  EXPECT_EQ(first.generation.sampling.prompt_logprobs_from, 0);
  EXPECT_EQ(second.generation.sampling.top_logprobs, -1);
  EXPECT_EQ(second.generation.sampling.prompt_logprobs_from, -1);
  EXPECT_TRUE(request->is_list);
}

constexpr const char* kBootstrap =
    R"("bootstrap_host": "p", "bootstrap_port": 8998, "bootstrap_room": 4611686018427387904)";

TEST(BootstrapFields, EveryApiTakesThem) {
  const auto expect = [](const std::optional<Bootstrap>& got) {
    ASSERT_TRUE(got);
    EXPECT_EQ(got->prefill, (HostPort{"p", 8998}));
    EXPECT_EQ(got->room, uint64_t{1} << 62);
  };
  expect(chat(kBootstrap)->generation.bootstrap);
  expect(completion(kBootstrap)->generation.bootstrap);
  expect(native(std::string(R"({"text": "x", )") + kBootstrap + "}")->items[0].generation.bootstrap);
  EXPECT_FALSE(chat("")->generation.bootstrap);
}

TEST(BootstrapFields, AllThreeBelongTogether) {
  EXPECT_THAT(chat(R"("bootstrap_port": 1, "bootstrap_room": 1)").error().message, HasSubstr("`bootstrap_host`"));
  EXPECT_THAT(chat(R"("bootstrap_host": "p", "bootstrap_room": 1)").error().message, HasSubstr("`bootstrap_port`"));
  EXPECT_THAT(chat(R"("bootstrap_host": "p", "bootstrap_port": 70000, "bootstrap_room": 1)").error().message,
              HasSubstr("`bootstrap_port`"));
  EXPECT_THAT(chat(R"("bootstrap_host": "p", "bootstrap_port": 1, "bootstrap_room": -1)").error().message,
              HasSubstr("`bootstrap_room`"));
}

}  // namespace
}  // namespace hylas
