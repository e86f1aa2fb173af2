#include "tidy/source.h"

#include <gtest/gtest.h>

namespace hylas::tidy {
namespace {

TEST(CodeOnly, BlanksCommentsAndLiteralsAndKeepsEveryOffset) {
  struct {
    const char *text, *code;
  } cases[] = {
      {"a // b {\nc", "a       \nc"},
      {"a /* { \n } */ b", "a      \n      b"},
      {"f(\"{\\\"}\");", "f(      );"},
      {"c = '{';", "c =    ;"},
      {"c = '\\'';", "c =     ;"},
      {"n = 1'000'000;", "n = 1'000'000;"},
      {"s = R\"(a\"{)\" + x;", "s =          + x;"},
      {"s = R\"--(a)\")--\";", "s =             ;"},
      {"\"// no comment\" x", "                x"},
      {"a /* not closed", "a              "},
  };
  for (auto& sample : cases) EXPECT_EQ(code_only(sample.text), sample.code) << sample.text;
}

TEST(Source, FindsTheQuotedIncludes) {
  Source source("src/ops/a.cc",
                "#include <vector>\n#include \"ops/a.h\"\n  #  include \"base/b.h\"\n// #include \"no/c.h\"\n");
  ASSERT_EQ(source.includes.size(), 2u);
  EXPECT_EQ(source.includes[0].path, "ops/a.h");
  EXPECT_EQ(source.includes[1].path, "base/b.h");
  EXPECT_EQ(source.includes[1].line, 3);
}

TEST(Width, CountsCharactersNotBytes) { EXPECT_EQ(width("a\xc3\xbc\xe6\xb5\xb7"), 3u); }

TEST(FindWord, WantsTheWordAlone) {
  EXPECT_EQ(find_word("rename name", "name"), 7u);
  EXPECT_EQ(find_word("name_ rename", "name"), std::string_view::npos);
}

TEST(SplitLines, TakesALastLineWithoutItsEnd) {
  EXPECT_EQ(split_lines("a\n\nb"), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split_lines("a\n"), (std::vector<std::string>{"a"}));
  EXPECT_TRUE(split_lines("").empty());
}

}  // namespace
}  // namespace hylas::tidy
