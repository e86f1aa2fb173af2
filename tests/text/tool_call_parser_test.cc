#include "text/tool_call_parser.h"

#include <gtest/gtest.h>

#include <random>

namespace hylas {
namespace {

const boost::json::array& tools() {
  static const boost::json::array parsed = boost::json::parse(R"([
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
      "city": {"type": "string"}, "days": {"type": "integer"}, "ratio": {"type": "number"},
      "metric": {"type": "boolean"}, "opts": {"type": "object"}, "list": {"type": "array"},
      "maybe": {"type": ["string", "null"]}, "mode": {"enum": ["fast", "slow"]},
      "any": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
      "ref": {"$ref": "#/$defs/Point"}},
      "$defs": {"Point": {"type": "object"}}}}},
    {"type": "function", "function": {"name": "ping"}}])")
                                               .as_array();
  return parsed;
}

std::string call(const std::string& name, std::initializer_list<std::pair<const char*, const char*>> parameters) {
  std::string text = "<tool_call>\n<function=" + name + ">\n";
  for (const auto& [key, value] : parameters) {
    text += "<parameter=" + std::string(key) + ">\n" + value + "\n</parameter>\n";
  }
  return text + "</function>\n</tool_call>";
}

std::string arguments_of(const std::string& text) {
  ToolCallOutput output = parse_tool_calls(tools(), text);
  return output.calls.size() == 1 ? output.calls[0].arguments
                                  : "not one call but " + std::to_string(output.calls.size());
}

TEST(ToolCallParser, TypesComeFromTheSchema) {
  EXPECT_EQ(arguments_of(call("weather", {{"city", "Paris"}, {"days", "3"}})), R"({"city": "Paris", "days": 3})");
  EXPECT_EQ(arguments_of(call("weather", {{"ratio", "0.5"}, {"metric", "True"}})), R"({"ratio": 0.5, "metric": true})");
  EXPECT_EQ(arguments_of(call("weather", {{"opts", "{\"a\": [1, 2]}"}})), R"({"opts": {"a": [1, 2]}})");
  EXPECT_EQ(arguments_of(call("weather", {{"opts", "{'a': True, 'b': None,}"}})),
            R"({"opts": {"a": true, "b": null}})");
  EXPECT_EQ(arguments_of(call("weather", {{"list", "(1, 'x')"}, {"ref", "{}"}})), R"({"list": [1, "x"], "ref": {}})");
  EXPECT_EQ(arguments_of(call("weather", {{"maybe", "null"}, {"any", "null"}, {"days", "null"}})),
            R"({"maybe": null, "any": null, "days": null})");
  EXPECT_EQ(arguments_of(call("weather", {{"maybe", "nullable"}, {"mode", "fast"}, {"any", "7"}})),
            R"({"maybe": "nullable", "mode": "fast", "any": 7})");
  EXPECT_EQ(arguments_of(call("weather", {{"city", "null"}, {"days", "5.0"}})), R"({"city": "null", "days": 5})");
}

TEST(ToolCallParser, ValuesThatDoNotFitTheirTypeAreStrings) {
  EXPECT_EQ(arguments_of(call("weather", {{"days", "three"}, {"opts", "{broken"}, {"metric", "perhaps"}})),
            R"({"days": "three", "opts": "{broken", "metric": "perhaps"})");
}

TEST(ToolCallParser, OneNewlineOnEitherSideBelongsToTheForm) {
  EXPECT_EQ(arguments_of(call("weather", {{"city", "\n a\n\tb\n"}})), R"({"city": "\n a\n\tb\n"})");
  EXPECT_EQ(arguments_of("<tool_call>\n<function=weather>\n<parameter=city>\n</parameter>\n</function>\n</tool_call>"),
            R"({"city": ""})");
  EXPECT_EQ(arguments_of("<tool_call><function=weather><parameter=city>a\"b\\</parameter></function></tool_call>"),
            R"({"city": "a\"b\\"})");
}

TEST(ToolCallParser, SeveralCallsAndTextAroundThem) {
  ToolCallOutput output = parse_tool_calls(
      tools(), "Let me see.\n\n" + call("weather", {{"city", "A"}}) + "\n" + call("ping", {}) + "\nDone.");
  EXPECT_EQ(output.text, "Let me see.\n\n\nDone.");
  ASSERT_EQ(output.calls.size(), 2u);
  EXPECT_EQ(output.calls[0].name, "weather");
  EXPECT_EQ(output.calls[1].name, "ping");
  EXPECT_EQ(output.calls[1].arguments, "{}");
}

TEST(ToolCallParser, UnknownFunctionsPassUnlessStrict) {
  std::string text = call("nowhere", {{"x", "1"}});
  ToolCallOutput output = parse_tool_calls(tools(), text);
  ASSERT_EQ(output.calls.size(), 1u);
  EXPECT_EQ(output.calls[0].arguments, R"({"x": "1"})");
  output = parse_tool_calls(tools(), text, true);
  EXPECT_TRUE(output.calls.empty());
  EXPECT_EQ(output.text, text);
}

TEST(ToolCallParser, WhatNeverBecomesACallIsGivenBack) {
  for (const std::string text : {"write <tool_call> to call", "<tool_call>", "<tool_call>\n", "<tool_call>\n<func",
                                 "<tool_call>\n<function=", "<tool_call>\n<function=na", "<tool_call>\n<function=a\nb>",
                                 "<tool_call>\n<function=>", "</tool_call> alone", "<tool_", "<parameter=x>",
                                 "<tool_call>{\"name\": 1}</tool_call>"}) {
    ToolCallOutput output = parse_tool_calls(tools(), text);
    EXPECT_EQ(output.text, text);
    EXPECT_TRUE(output.calls.empty()) << text;
  }
}

TEST(ToolCallParser, MissingEndsAreSupplied) {
  EXPECT_EQ(arguments_of("<tool_call>\n<function=weather>\n<parameter=city>\nPar"), R"({"city": "Par"})");
  EXPECT_EQ(arguments_of("<tool_call>\n<function=weather>\n<parameter=days>\n1"), R"({"days": 1})");
  EXPECT_EQ(arguments_of("<tool_call>\n<function=weather>\n"), "{}");
  EXPECT_EQ(arguments_of("<tool_call>\n<function=weather>\n<parameter=city>\nA\n<parameter=days>\n2\n</function>"),
            R"({"city": "A", "days": 2})");
  EXPECT_EQ(arguments_of("<tool_call>\n<function=weather>\n<parameter=city>\nA\n</parameter>\n</tool_call>"),
            R"({"city": "A"})");
  ToolCallOutput output =
      parse_tool_calls(tools(), "<tool_call>\n<function=ping>\n<tool_call>\n<function=ping>\n<function=ping>\n");
  EXPECT_EQ(output.calls.size(), 3u);
}

TEST(ToolCallParser, StrayTextInsideACallIsNotLost) {
  ToolCallOutput output = parse_tool_calls(
      tools(), "<tool_call>\n<function=ping>\nwhat is < this\n<parameter=a\n>\n</function>\n</tool_call>");
  EXPECT_EQ(output.calls.size(), 1u);
  EXPECT_EQ(output.text, "what is < this\n<parameter=a\n>\n");
  output = parse_tool_calls(tools(), "<tool_call>\n<function=ping>\n<parameter=ke");
  EXPECT_EQ(output.text, "<parameter=ke");
}

TEST(ToolCallParser, StreamsTheNameThenTheArgumentsAsTheyGrow) {
  ToolCallParser parser(tools());
  EXPECT_TRUE(parser.push("<tool_call>\n<function=weath").empty());
  std::vector<ToolEvent> events = parser.push("er>\n<para");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, ToolEvent::Kind::kCallBegin);
  EXPECT_EQ(events[0].text, "weather");
  EXPECT_EQ(events[0].index, 0);
  EXPECT_EQ(parser.calls(), 1);
  auto text_of = [](const std::vector<ToolEvent>& events) {
    std::string text;
    for (const ToolEvent& event : events) {
      EXPECT_EQ(event.kind, ToolEvent::Kind::kArgumentsDelta);
      text += event.text;
    }
    return text;
  };
  EXPECT_EQ(text_of(parser.push("meter=city>")), "{\"city\": ");
  EXPECT_EQ(text_of(parser.push("\nNew")), "\"New");
  EXPECT_EQ(text_of(parser.push(" York\n")), " York");
  EXPECT_EQ(text_of(parser.push("</parameter>\n<parameter=days>\n1")), "\", \"days\": ");
  EXPECT_EQ(text_of(parser.push("2\n</parameter>")), "12");
  events = parser.push("\n</function>\n</tool_call>");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].text, "}");
  EXPECT_EQ(events[1].kind, ToolEvent::Kind::kCallEnd);
}

// Concatenated: text, and for every call its name, arguments and end.
std::string fold(const std::vector<std::vector<ToolEvent>>& batches) {
  std::string text, calls;
  int open = -1;
  for (const auto& batch : batches) {
    for (const ToolEvent& event : batch) {
      if (event.kind == ToolEvent::Kind::kText) text += event.text;
      if (event.kind == ToolEvent::Kind::kCallBegin) calls += "[" + event.text + "|", open = event.index;
      if (event.kind == ToolEvent::Kind::kArgumentsDelta) calls += event.text;
      if (event.kind == ToolEvent::Kind::kCallEnd) calls += "]";
      EXPECT_EQ(event.index, event.kind == ToolEvent::Kind::kText ? -1 : open);
    }
  }
  return text + calls;
}

TEST(ToolCallParser, NoCutOfTheTextChangesTheResult) {
  std::vector<std::string> texts = {
      "hi " + call("weather", {{"city", "a\n<b>\n"}, {"days", "12"}}) + "\n" + call("ping", {}) + " end",
      "<tool_call>\n<function=weather>\nstray <x <parameter=city>\n</param\n\n<parameter=maybe>null\n</function> tail",
      "a <tool_call> b <tool_call>\n<function=x\n<tool_call>\n<function=ping>\n<function=ping></tool_call>\n "
      "<tool_call>",
      "<tool_call><function=weather><parameter=maybe>nul</parameter><parameter=opts>{'a':1}</parameter>  <parameter=k"};
  for (const std::string& text : texts) {
    auto run = [&](std::vector<size_t> cuts) {
      ToolCallParser parser(tools());
      std::vector<std::vector<ToolEvent>> batches;
      size_t begin = 0;
      cuts.push_back(text.size());
      for (size_t cut : cuts)
        batches.push_back(parser.push(std::string_view(text).substr(begin, cut - begin))), begin = cut;
      batches.push_back(parser.finish());
      return fold(batches);
    };
    std::string whole = run({});
    std::vector<size_t> every;
    for (size_t i = 0; i <= text.size(); ++i) {
      every.push_back(i);
      for (size_t j = i; j <= text.size(); ++j) ASSERT_EQ(run({i, j}), whole) << text << ' ' << i << ' ' << j;
    }
    EXPECT_EQ(run(every), whole);
  }
}

TEST(ToolCallParser, ArgumentsAreAlwaysValidJson) {
  constexpr unsigned kSeed = 3;
  std::mt19937 random(kSeed);
  const char* kParts[] = {"<tool_call>",
                          "</tool_call>",
                          "<function=weather>",
                          "<function=",
                          "</function>",
                          "<parameter=city>",
                          "<parameter=days>",
                          "<parameter=opts>",
                          "<parameter=maybe>",
                          "<parameter=",
                          "</parameter>",
                          "\n",
                          "\"",
                          "\\",
                          "null",
                          "{",
                          "}",
                          "12",
                          "é",
                          "<",
                          ">",
                          "x"};
  for (int round = 0; round < 3000; ++round) {
    std::string text = random() % 2 ? "<tool_call>\n<function=weather>\n" : "";
    for (int i = 0; i < 20; ++i) text += kParts[random() % std::size(kParts)];
    for (const ToolCall& parsed : parse_tool_calls(tools(), text).calls) {
      boost::json::error_code code;
      EXPECT_TRUE(boost::json::parse(parsed.arguments, code).is_object())
          << "seed " << kSeed << ' ' << text << parsed.arguments;
    }
  }
}

TEST(ToolCallParser, ToolsOfAnyShapeNeverCrash) {
  for (const char* shape :
       {"[]", "[1, null, {}, []]", R"([{"function": 5}, {"function": {"name": "f", "parameters": [1]}}])",
        R"([{"function": {"name": "f", "parameters": {"properties": {"x": 5}}}}])",
        R"([{"name": "f", "parameters": {"properties": {"x": {"$ref": "#/properties/x"}}}}])",
        R"([{"name": "f", "parameters": {"properties": {"x": {"anyOf": [{"$ref": "#/nope"}, 5]}}}}])"}) {
    ToolCallOutput output = parse_tool_calls(boost::json::parse(shape).as_array(), call("f", {{"x", "1"}}));
    ASSERT_EQ(output.calls.size(), 1u);
    EXPECT_EQ(output.calls[0].arguments, R"({"x": "1"})");
  }
}

}  // namespace
}  // namespace hylas
