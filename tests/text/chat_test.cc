#include "text/chat.h"

#include <filesystem>
#include <fstream>

#include "text/text_test_data.h"

namespace hylas {
namespace {

ChatPrompt prompt_of(const char* messages) {
  ChatPrompt prompt;
  prompt.messages = boost::json::parse(messages).as_array();
  return prompt;
}

Result<std::string> render(const char* source, const ChatPrompt& prompt) {
  auto parsed = ChatTemplate::parse(source);
  return parsed ? render_chat(**parsed, prompt) : Result<std::string>(parsed.error());
}

TEST(Chat, ArgumentsBecomeMappings) {
  ChatPrompt prompt = prompt_of(R"([{"role": "assistant", "tool_calls": [
    {"function": {"name": "f", "arguments": "{\"x\": 1.5, \"y\": [true]}"}},
    {"function": {"name": "g", "arguments": {"z": "w"}}},
    {"function": {"name": "h", "arguments": "  "}}]}])");
  Result<std::string> text =
      render("{% for c in messages[0].tool_calls %}{{ c.function.arguments|items|list }};{% endfor %}", prompt);
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_EQ(*text, "[('x', 1.5), ('y', [True])];[('z', 'w')];[];");
}

TEST(Chat, ArgumentsThatAreNoObjectAreNamed) {
  for (const char* arguments : {"[1]", "{", "5"}) {
    ChatPrompt prompt =
        prompt_of(R"([{"role": "user"}, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}])");
    prompt.messages[1].at("tool_calls").at(0).at("function").as_object()["arguments"] = arguments;
    Result<std::string> text = render("x", prompt);
    ASSERT_FALSE(text.ok()) << arguments;
    EXPECT_EQ(text.error().code, ErrorCode::kInvalid);
    EXPECT_NE(text.error().message.find("messages[1].tool_calls[0].function.arguments"), std::string::npos)
        << text.error().message;
  }
}

TEST(Chat, MissingContentIsNoneAndToolsAreNoneWithoutAny) {
  Result<std::string> text = render("{{ messages[0].content is none }} {{ tools is none }} {{ add_generation_prompt }}",
                                    prompt_of(R"([{"role": "user"}])"));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "True True True");
}

TEST(Chat, TemplateArgumentsReachTheTemplate) {
  ChatPrompt prompt = prompt_of("[]");
  prompt.template_kwargs = {{"enable_thinking", false}, {"effort", "low"}};
  Result<std::string> text = render("{{ enable_thinking is false }} {{ effort }}", prompt);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "True low");
}

TEST(Chat, MessagesOfAnyShapeNeverCrash) {
  std::string source = test_data_text("models/templates/qwen3.6.jinja");
  for (const char* messages :
       {"[]", "[1, null, \"x\", [], {}]", R"([{"role": 5, "content": {"a": 1}}])",
        R"([{"role": "user", "content": [1, {}]}])",
        R"([{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [1, {}, {"function": 5}]}])",
        R"([{"role": "user", "content": "a"},
           {"role": "assistant", "tool_calls": [{"function": {"name": {}, "arguments": [1]}}]}])"}) {
    Result<std::string> text = render(source.c_str(), prompt_of(messages));
    EXPECT_FALSE(text.ok()) << messages << *text;
  }
}

TEST(Chat, ACheckpointsTemplateAndSpecialTokensAreRead) {
  std::string dir = testing::TempDir() + "chat_template_test";
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/tokenizer_config.json")
      << R"({"chat_template": "{{ eos_token }}{{ bos_token is defined }}{{ pad_token }}", "bos_token": null,
             "eos_token": "<|im_end|>", "pad_token": {"content": "<pad>"}})";
  auto loaded = ChatTemplate::load(dir);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(*render_chat(**loaded, prompt_of("[]")), "<|im_end|>False<pad>");
  std::ofstream(dir + "/chat_template.jinja") << "the file wins {{ eos_token }}";
  loaded = ChatTemplate::load(dir);
  EXPECT_EQ(*render_chat(**loaded, prompt_of("[]")), "the file wins <|im_end|>");
  std::ofstream(dir + "/chat_template.jinja") << "{{ broken";
  loaded = ChatTemplate::load(dir);
  ASSERT_FALSE(loaded.ok());
  EXPECT_NE(loaded.error().message.find(dir), std::string::npos) << loaded.error().message;
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace hylas
