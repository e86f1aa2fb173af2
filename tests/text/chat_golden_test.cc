// The cases were rendered by Hugging Face's own environment from the family's templates: text, ids and errors must be
// equal.
#include "text/chat.h"
#include "text/text_test_data.h"

namespace hylas {
namespace {

class ChatGolden : public testing::TestWithParam<const char*> {};

ChatPrompt prompt_of(const boost::json::value& entry) {
  ChatPrompt prompt;
  prompt.messages = entry.at("messages").as_array();
  prompt.template_kwargs = entry.at("kwargs").as_object();
  prompt.add_generation_prompt = prompt.template_kwargs["add_generation_prompt"].as_bool();
  if (prompt.template_kwargs.contains("tools")) prompt.tools = prompt.template_kwargs["tools"].as_array();
  prompt.template_kwargs.erase("tools");
  prompt.template_kwargs.erase("add_generation_prompt");
  return prompt;
}

TEST_P(ChatGolden, RendersAsHuggingFace) {
  std::string version = GetParam();
  auto parsed = ChatTemplate::parse(test_data_text("models/templates/qwen" + version + ".jinja"));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  int rendered = 0, raised = 0;
  boost::json::value cases = test_data_json("tests/data/text/chat_cases.json");
  for (const boost::json::value& entry : cases.at("cases").as_array()) {
    SCOPED_TRACE(entry.at("name").as_string().c_str());
    Result<std::string> text = render_chat(**parsed, prompt_of(entry));
    if (const boost::json::value* error = entry.at("error").as_object().if_contains(version)) {
      ASSERT_FALSE(text.ok());
      EXPECT_EQ("TemplateError: " + text.error().message, error->as_string());
      EXPECT_EQ(text.error().code, ErrorCode::kInvalid);
      ++raised;
      continue;
    }
    ASSERT_TRUE(text.ok()) << text.error().message;
    EXPECT_EQ(*text, entry.at("rendered").at(version).as_string());
    const boost::json::value& ids = entry.at("ids").at(version);
    EXPECT_EQ(tiny_tokenizer().encode(*text), boost::json::value_to<std::vector<int32_t>>(ids.at("tiny")));
    EXPECT_EQ(real_tokenizer().encode(*text), boost::json::value_to<std::vector<int32_t>>(ids.at("real")));
    ++rendered;
  }
  EXPECT_GE(rendered, 16);
  EXPECT_GE(raised, 2);
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatGolden, testing::Values("3.5", "3.5-small", "3.6", "3.8.reconstructed"));

}  // namespace
}  // namespace hylas
