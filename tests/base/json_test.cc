#include "base/json.h"

#include <gtest/gtest.h>

namespace hylas::json {
namespace {

std::string parse_failure(std::string_view text, const ParseLimits& limits = {}) {
  auto parsed = parse(text, limits);
  EXPECT_FALSE(parsed.ok()) << text;
  return parsed.ok() ? "" : parsed.error().message;
}

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(JsonParse, KeepsTheOrderOfKeys) {
  object parsed = parse_object(R"({"z": 1, "a": {"y": 2, "b": 3}})", "the body").value();
  EXPECT_EQ(boost::json::serialize(parsed), R"({"z":1,"a":{"y":2,"b":3}})");
}

TEST(JsonParse, SaysWhereTheErrorStands) {
  EXPECT_EQ(parse_failure("{\"a\": 1,\n \"b\": x}").rfind("invalid JSON at line 2, column 7: ", 0), 0u);
  EXPECT_EQ(parse_failure("tru").rfind("invalid JSON at line 1, column 4: ", 0), 0u);
  EXPECT_EQ(parse_failure("{} {}"), "invalid JSON at line 1, column 4: text follows the value");
}

TEST(JsonParse, RefusesWhatRfc8259Refuses) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "{'a':1}", "NaN", "01", "[1 2]", "\"\t\"", "// x\n1"}) {
    EXPECT_FALSE(parse(text).ok()) << text;
  }
}

TEST(JsonParse, RefusesTextThatIsNotUtf8) {
  EXPECT_TRUE(parse("\"gr\xc3\xbc\xc3\x9f\"").ok());
  for (const char* text : {"\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\\ud800\"", "\"\xc0\xaf\""}) {
    EXPECT_FALSE(parse(text).ok()) << testing::PrintToString(std::string(text));
  }
}

TEST(JsonParse, LimitsDepthAndSize) {
  EXPECT_TRUE(parse(nested(64)).ok());
  EXPECT_NE(parse_failure(nested(65)).find("nested more than 64 levels deep"), std::string::npos);
  EXPECT_NE(parse_failure(std::string(1 << 20, '[')).find("64 levels"), std::string::npos);
  EXPECT_TRUE(parse("[1, 2]", {.bytes_max = 6}).ok());
  EXPECT_EQ(parse_failure("[1, 2]", {.bytes_max = 5}), "the JSON text has 6 bytes; at most 5 are allowed");
}

TEST(JsonParse, AnObjectIsWantedAtTheTop) {
  EXPECT_EQ(parse_object("[]", "the request body").error().message,
            "the request body must be a JSON object, not an array");
  EXPECT_EQ(parse_object("{", "config.json").error().message.rfind("config.json: invalid JSON at line 1", 0), 0u);
}

class JsonFields : public testing::Test {
 protected:
  object from_ = parse_object(R"({"text": "tide", "int": 7, "whole": 3.0, "real": 0.5, "big": 18446744073709551615,
                                  "flag": true, "list": [1], "map": {"k": 1}, "none": null})",
                              "the test's text")
                     .value();
};

TEST_F(JsonFields, RequireReadsEachType) {
  EXPECT_EQ(*require_string(from_, "text"), "tide");
  EXPECT_EQ(*require_int(from_, "int"), 7);
  EXPECT_EQ(*require_int(from_, "whole"), 3);
  EXPECT_EQ(*require_number(from_, "real"), 0.5);
  EXPECT_EQ(*require_number(from_, "int"), 7.0);
  EXPECT_EQ(*require_bool(from_, "flag"), true);
  EXPECT_EQ((*require_array(from_, "list"))->size(), 1u);
  EXPECT_TRUE((*require_object(from_, "map"))->contains("k"));
}

TEST_F(JsonFields, OptionalReadsEachType) {
  EXPECT_EQ(optional_string(from_, "text")->value(), "tide");
  EXPECT_EQ(optional_int(from_, "int")->value(), 7);
  EXPECT_EQ(optional_number(from_, "real")->value(), 0.5);
  EXPECT_EQ(optional_bool(from_, "flag")->value(), true);
  EXPECT_NE(*optional_array(from_, "list"), nullptr);
  EXPECT_NE(*optional_object(from_, "map"), nullptr);
}

TEST_F(JsonFields, AbsentAndNullAreTheSameWhereAFieldIsOptional) {
  for (const char* key : {"absent", "none"}) {
    EXPECT_EQ(*optional_string(from_, key), std::nullopt);
    EXPECT_EQ(*optional_int(from_, key), std::nullopt);
    EXPECT_EQ(*optional_number(from_, key), std::nullopt);
    EXPECT_EQ(*optional_bool(from_, key), std::nullopt);
    EXPECT_EQ(*optional_array(from_, key), nullptr);
    EXPECT_EQ(*optional_object(from_, key), nullptr);
  }
}

TEST_F(JsonFields, ErrorsNameThePathAndWhatWasFound) {
  EXPECT_EQ(require_string(from_, "absent").error().message, "`absent` is required: a string");
  EXPECT_EQ(require_string(from_, "none").error().message, "`none` must be a string, not null");
  EXPECT_EQ(require_string(from_, "map", "messages[2]").error().message,
            "`messages[2].map` must be a string, not an object");
  EXPECT_EQ(optional_int(from_, "real").error().message, "`real` must be an integer, not 5E-1");
  EXPECT_EQ(optional_int(from_, "big").error().message, "`big` must be an integer, not 18446744073709551615");
  EXPECT_EQ(optional_bool(from_, "int").error().message, "`int` must be a boolean, not 7");
  EXPECT_EQ(optional_array(from_, "text").error().message, "`text` must be an array, not a string");
  EXPECT_EQ(optional_number(from_, "flag").error().message, "`flag` must be a number, not a boolean");
  EXPECT_EQ(optional_object(from_, "list").error().message, "`list` must be an object, not an array");
}

}  // namespace
}  // namespace hylas::json
