#include "text/grammar.h"

#include <thread>

#include "text/text_test_data.h"

namespace hylas {
namespace {

constexpr int32_t kRows = 1056;  // more than the 1,033 tokens, as models have
constexpr int32_t kStop = 1002;  // <|im_end|>
constexpr int32_t kThinkEnd = 1025;

class GrammarTest : public testing::Test {
 protected:
  static GrammarCompiler& compiler() {
    static const int32_t stops[] = {kStop, 1000};
    static GrammarCompiler shared(tiny_tokenizer(), kRows, stops);
    return shared;
  }
  static std::shared_ptr<const CompiledGrammar> compiled(const GrammarCompiler::Compiled& result) {
    return result ? *result : (ADD_FAILURE() << result.error().message, nullptr);
  }
  static std::vector<uint32_t> mask_of(GrammarMatcher& matcher) {
    std::vector<uint32_t> mask((kRows + 31) / 32);
    matcher.fill_mask(mask);
    return mask;
  }
  static bool allowed(GrammarMatcher& matcher, int32_t id) { return mask_of(matcher)[id / 32] >> id % 32 & 1; }
  // True if every token of the text is allowed, by the mask and by accept, and the text may end there.
  static bool takes(GrammarMatcher& matcher, const std::string& text) {
    for (int32_t id : tiny_tokenizer().encode(text)) {
      bool in_mask = allowed(matcher, id);
      bool accepted = matcher.accept(id);
      EXPECT_EQ(in_mask, accepted) << text << " at " << tiny_tokenizer().token_bytes(id);
      if (!accepted) return false;
    }
    return allowed(matcher, kStop);
  }
  static bool takes(const GrammarCompiler::Compiled& grammar, const std::string& text) {
    GrammarMatcher matcher(compiled(grammar));
    return takes(matcher, text);
  }
};

TEST_F(GrammarTest, JsonSchema) {
  auto grammar = compiler().json_schema(
      R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name"]})");
  EXPECT_TRUE(takes(grammar, R"({"name": "Zoë", "age": 42})"));
  EXPECT_TRUE(takes(grammar, R"({"name": ""})"));
  EXPECT_FALSE(takes(grammar, R"({"name": 5})"));
  EXPECT_FALSE(takes(grammar, R"({"age": 5})"));
  EXPECT_FALSE(takes(grammar, R"({"name": "a")"));
  EXPECT_FALSE(takes(grammar, "hello"));
}

TEST_F(GrammarTest, AnyJsonObject) {
  EXPECT_TRUE(takes(compiler().json_object(), R"({"a": [1, {"b": null}]})"));
  EXPECT_FALSE(takes(compiler().json_object(), "[1]"));
}

// JSON readers refuse them; xgrammar's strings take some.
TEST_F(GrammarTest, JsonHasNoControlCharacters) {
  const auto any_object = compiler().json_object();
  const auto schema = compiler().json_schema(R"({"type": "object", "properties": {"a": {"type": "string"}}})");
  for (const auto& grammar : {any_object, schema}) {
    GrammarMatcher matcher(compiled(grammar));
    for (int32_t id : tiny_tokenizer().encode("{\"a\": \"x")) ASSERT_TRUE(matcher.accept(id));
    int controls = 0;
    for (int32_t id = 0; id < tiny_tokenizer().vocab_size(); ++id) {
      const std::string_view bytes = tiny_tokenizer().token_bytes(id);
      if (bytes.size() != 1 || static_cast<unsigned char>(bytes[0]) >= 0x20) continue;
      ++controls;
      EXPECT_FALSE(allowed(matcher, id)) << "byte " << int{bytes[0]};
      EXPECT_FALSE(matcher.accept(id)) << "byte " << int{bytes[0]};
    }
    EXPECT_EQ(controls, 32);
  }
}

TEST_F(GrammarTest, RegularExpressionAndEbnf) {
  EXPECT_TRUE(takes(compiler().regex("(ab)+[0-9]{2}"), "abab12"));
  EXPECT_FALSE(takes(compiler().regex("(ab)+[0-9]{2}"), "ab1"));
  EXPECT_TRUE(takes(compiler().ebnf("root ::= \"yes\" | \"no\""), "no"));
  EXPECT_FALSE(takes(compiler().ebnf("root ::= \"yes\" | \"no\""), "maybe"));
}

const boost::json::array& tools() {
  static const boost::json::array parsed = boost::json::parse(R"([
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
      "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "ping"}}])")
                                               .as_array();
  return parsed;
}

constexpr const char* kWeather =
    "<tool_call>\n<function=weather>\n<parameter=city>\nParis < Lyon\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>";
constexpr const char* kPing = "<tool_call>\n<function=ping>\n</function>\n</tool_call>";

TEST_F(GrammarTest, RequiredToolCalls) {
  auto grammar = compiler().tool_calls(tools(), "", true);
  EXPECT_TRUE(takes(grammar, kWeather));
  EXPECT_TRUE(takes(grammar, std::string(kWeather) + "\n" + kPing));
  EXPECT_FALSE(takes(grammar, "no call at all"));
  EXPECT_FALSE(takes(grammar, "<tool_call>\n<function=other>\n"));
  EXPECT_FALSE(takes(grammar, "<tool_call>\n<function=weather>\n<parameter=days>\n2\n</parameter>\n"));
}

TEST_F(GrammarTest, ANamedToolAndNoParallelCalls) {
  auto only_ping = compiler().tool_calls(tools(), "ping", true);
  EXPECT_TRUE(takes(only_ping, kPing));
  EXPECT_FALSE(takes(only_ping, kWeather));
  auto one = compiler().tool_calls(tools(), "", false);
  EXPECT_TRUE(takes(one, kWeather));
  EXPECT_FALSE(takes(one, std::string(kWeather) + "\n" + kPing));
}

std::string call_of(const std::string& function, const std::string& parameters) {
  return "<tool_call>\n<function=" + function + ">\n" + parameters + "</function>\n</tool_call>";
}
std::string parameter(const std::string& name, const std::string& value) {
  return "<parameter=" + name + ">\n" + value + "\n</parameter>\n";
}

TEST_F(GrammarTest, CallsAreWrittenAsTheChatTemplateDoesIt) {
  auto grammar = compiler().tool_calls(tools(), "", true);
  std::string city = parameter("city", "Oslo"), days = parameter("days", "2");
  EXPECT_TRUE(takes(grammar, call_of("weather", city)));
  EXPECT_TRUE(takes(grammar, call_of("weather", city + days)));
  for (const std::string& wrong :
       {call_of("weather", days + city), call_of("weather", "\n" + city), call_of("weather", city + "\n" + days),
        call_of("weather", city + "\n"), call_of("weather", city + " " + days), call_of("ping", "\n"),
        call_of("weather", city + parameter("days", " 2")), call_of("weather", city + parameter("days", "2 ")),
        call_of("weather", city + "<parameter=days>2</parameter>\n"), " " + call_of("ping", ""),
        call_of("ping", "") + "\n\n" + call_of("ping", ""), call_of("ping", "") + call_of("ping", "")}) {
    EXPECT_FALSE(takes(grammar, wrong)) << wrong;
  }
}

TEST_F(GrammarTest, ParametersFollowTheirSchemas) {
  auto grammar_of = [](const char* parameters) {
    auto schema = boost::json::parse(parameters);
    boost::json::array one{{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", schema}}}}};
    return compiler().tool_calls(one, "f", false);
  };
  auto of_one = [&](const std::string& schema) {
    return grammar_of((R"({"type": "object", "required": ["x"], "properties": {"x": )" + schema +
                       R"(}, "$defs": {"point": {"type": "object", "properties": {"x": {"type": "integer"}},
                          "required": ["x"]}}})")
                          .c_str());
  };
  struct Case {
    const char* schema;
    const char* value;
    bool taken;
  };
  for (const Case& c : std::initializer_list<Case>{
           {R"({"enum": ["Oslo", 3, null]})", "Oslo", true},
           {R"({"enum": ["Oslo", 3, null]})", "3", true},
           {R"({"enum": ["Oslo", 3, null]})", " Oslo", false},
           {R"({"const": "on"})", "on", true},
           {R"({"const": "on"})", "off", false},
           {R"({"type": "string"})", "  two\n\nlines ", true},
           {R"({"type": "string", "pattern": "^[a-c]+$"})", "abc", true},
           {R"({"type": "string", "pattern": "^[a-c]+$"})", "abd", false},
           {R"({"type": "array", "items": {"type": "integer"}})", "[1, 2]", true},
           {R"({"type": "array", "items": {"type": "integer"}})", "[1,  2]", false},
           {R"({"type": "array", "items": {"type": "integer"}})", "[1, \"a\"]", false},
           {R"({"$ref": "#/$defs/point"})", R"({"x": 1})", true},
           {R"({"$ref": "#/$defs/point"})", R"({"y": 1})", false},
           {R"({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]})", "abc", true},
           {R"({"type": "boolean"})", "true", true},
           {R"({"type": "boolean"})", "yes", false},
       }) {
    EXPECT_EQ(takes(of_one(c.schema), call_of("f", parameter("x", c.value))), c.taken) << c.schema << ": " << c.value;
  }
  auto any_name = grammar_of(R"({"type": "object", "additionalProperties": {"type": "integer"}})");
  EXPECT_TRUE(takes(any_name, call_of("f", parameter("left", "1") + parameter("right", "2"))));
  EXPECT_FALSE(takes(any_name, call_of("f", parameter("left", "\n\n1"))));
}

TEST_F(GrammarTest, WhiteSpaceBetweenPartsOfJsonEnds) {
  for (auto grammar :
       {compiler().json_object(), compiler().json_schema(R"({"properties": {"a": {"type": "integer"}}})")}) {
    EXPECT_TRUE(takes(grammar, R"({"a":1})"));
    EXPECT_TRUE(takes(grammar, "{\n" + std::string(14, ' ') + "\"a\": 1\n}"));
    EXPECT_FALSE(takes(grammar, "{" + std::string(17, '\n') + "\"a\": 1}"));
  }
}

TEST_F(GrammarTest, ErrorsSayWhy) {
  struct Case {
    GrammarCompiler::Compiled result;
    const char* part;
  };
  for (const Case& c : std::initializer_list<Case>{
           {compiler().json_schema("{"), "the JSON schema is no JSON"},
           {compiler().json_schema(R"({"type": "intege"})"), "Unsupported type \"intege\""},
           {compiler().json_schema("[1]"), "Schema should be an object"},
           {compiler().json_schema(R"({"$ref": "#/nope"})"), "nope"},
           {compiler().regex("a("), "parenthesis"},
           {compiler().regex("(?=a)b"), "Lookahead"},
           {compiler().ebnf("root ::= missing"), "\"missing\" is not defined"},
           {compiler().ebnf(""), "root"},
           {compiler().regex(std::string(1 << 20, 'a')), "bytes long"},
           {compiler().regex(std::string(50000, '(') + std::string(50000, ')')), "regular expression"},
           {compiler().tool_calls({}, "", true), "there are no tools"},
           {compiler().tool_calls(tools(), "other", true), "'other'"},
       }) {
    ASSERT_FALSE(c.result.ok());
    EXPECT_EQ(c.result.error().code, ErrorCode::kInvalid);
    EXPECT_NE(c.result.error().message.find(c.part), std::string::npos) << c.result.error().message;
    EXPECT_EQ(c.result.error().message.find(".cc:"), std::string::npos) << c.result.error().message;
  }
}

TEST_F(GrammarTest, NothingFollowsTheStopToken) {
  GrammarMatcher matcher(compiled(compiler().regex("a")));
  EXPECT_FALSE(matcher.accept(kStop));
  EXPECT_TRUE(takes(matcher, "a"));
  EXPECT_FALSE(matcher.terminated());
  EXPECT_TRUE(matcher.accept(kStop));
  EXPECT_TRUE(matcher.terminated());
  EXPECT_FALSE(matcher.accept(64));
  EXPECT_EQ(mask_of(matcher), std::vector<uint32_t>((kRows + 31) / 32));
  matcher.rollback(1);
  EXPECT_FALSE(matcher.terminated());
  EXPECT_TRUE(matcher.accept(kStop));
}

TEST_F(GrammarTest, RowsWithoutATokenAndSpecialTokensAreNeverAllowed) {
  GrammarMatcher matcher(compiled(compiler().regex("[\\s\\S]*")));
  for (int32_t id = 1033; id < kRows; ++id) EXPECT_FALSE(allowed(matcher, id)) << id;
  EXPECT_FALSE(allowed(matcher, 1001));  // <|im_start|>
  EXPECT_TRUE(allowed(matcher, 64));
  EXPECT_FALSE(matcher.accept(-1));
  EXPECT_FALSE(matcher.accept(1050));
  EXPECT_FALSE(matcher.accept(1 << 20));
}

TEST_F(GrammarTest, BeginsBehindTheReasoning) {
  GrammarMatcher matcher(compiled(compiler().regex("ab")), kThinkEnd);
  ASSERT_EQ(tiny_tokenizer().token_bytes(kThinkEnd), "</think>");
  EXPECT_TRUE(allowed(matcher, 70));
  EXPECT_FALSE(allowed(matcher, 1040));  // a row without a token
  EXPECT_TRUE(matcher.accept(70));
  EXPECT_TRUE(matcher.accept(kThinkEnd));
  EXPECT_FALSE(matcher.accept(70));
  EXPECT_TRUE(matcher.accept(64));
  EXPECT_FALSE(matcher.accept(64));
  matcher.rollback(2);  // back into the reasoning
  EXPECT_TRUE(matcher.accept(70));
  EXPECT_TRUE(matcher.accept(kThinkEnd));
  EXPECT_TRUE(takes(matcher, "ab"));
}

TEST_F(GrammarTest, RollbackRestoresTheMask) {
  GrammarMatcher matcher(compiled(compiler().json_schema(R"({"type": "array", "items": {"type": "integer"}})")));
  std::vector<std::vector<uint32_t>> masks;
  std::vector<int32_t> ids = tiny_tokenizer().encode("[1, 23, 456]");
  for (int32_t id : ids) {
    masks.push_back(mask_of(matcher));
    ASSERT_TRUE(matcher.accept(id));
  }
  for (size_t i = ids.size(); i-- > 0;) {
    matcher.rollback(1);
    EXPECT_EQ(mask_of(matcher), masks[i]);
  }
}

TEST_F(GrammarTest, ThreadsShareTheCompiler) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 5; ++i)
        EXPECT_TRUE(takes(compiler().regex("a{" + std::to_string(1 + (t + i) % 3) + ",9}"), "aaaa"));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace hylas
