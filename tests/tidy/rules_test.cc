#include "tidy/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas::tidy {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST(Floors, AFloorIncludesItselfAndLowerOnes) {
  EXPECT_THAT(
      check_floors({"src/ops/cpu/a.cc", "#include \"ops/ops.h\"\n#include \"tensor/t.h\"\n#include \"base/b.h\"\n"}),
      IsEmpty());
  EXPECT_THAT(check_floors({"src/app/main.cc", "#include \"serve/s.h\"\n#include \"app/options.h\"\n"}), IsEmpty());
  EXPECT_THAT(check_floors({"tests/ops/a_test.cc", "#include \"serve/s.h\"\n"}), IsEmpty());
}

TEST(Floors, AHigherOneIsRefused) {
  struct {
    const char *path, *include;
  } cases[] = {
      {"src/base/a.h", "text/t.h"},       {"src/text/a.h", "tensor/t.h"},      {"src/tensor/a.h", "ops/o.h"},
      {"src/tensor/a.h", "text/t.h"},     {"src/ops/a.h", "comm/c.h"},         {"src/comm/a.h", "ops/o.h"},
      {"src/weights/a.h", "cache/c.h"},   {"src/cache/a.h", "weights/w.h"},    {"src/model/a.h", "text/t.h"},
      {"src/model/a.h", "engine/e.h"},    {"src/transfer/a.h", "model/m.h"},   {"src/transfer/a.h", "ops/o.h"},
      {"src/engine/a.h", "serve/s.h"},    {"src/serve/a.h", "tensor/t.h"},     {"src/serve/a.h", "ops/o.h"},
      {"src/serve/a.h", "model/m.h"},     {"src/serve/a.h", "cache/c.h"},      {"src/serve/a.h", "weights/w.h"},
      {"src/serve/a.h", "app/options.h"}, {"src/ops/a.h", "support/random.h"}, {"src/ops/a.h", "beside.h"},
  };
  for (auto& sample : cases) {
    Source source(sample.path, std::string("#pragma once\n#include \"") + sample.include + "\"\n");
    Findings findings = check_floors(source);
    ASSERT_EQ(findings.size(), 1u) << sample.path << " -> " << sample.include;
    EXPECT_EQ(findings[0].line, 2);
  }
}

TEST(Floors, AFolderThatIsNoFloorIsRefused) {
  EXPECT_THAT(to_string(check_floors({"src/utils/a.h", ""})), HasSubstr("src/utils is no floor"));
}

TEST(Lengths, OfFiles) {
  EXPECT_THAT(check_lengths({"src/base/a.cc", repeat("int a;\n", 400)}), IsEmpty());
  EXPECT_THAT(to_string(check_lengths({"src/base/a.cc", repeat("int a;\n", 401)})),
              HasSubstr("the file has 401 lines"));
}

TEST(Lengths, OfFunctions) {
  EXPECT_THAT(check_lengths({"src/base/a.cc", "void f() {\n" + repeat("  g();\n", 68) + "}\n"}), IsEmpty());
  EXPECT_EQ(to_string(check_lengths({"src/base/a.cc", "\nvoid f() {\n" + repeat("  g();\n", 69) + "}\n"})),
            "src/base/a.cc:2: the function has 71 lines; at most 70\n");
}

TEST(Lengths, OfLines) {
  EXPECT_THAT(check_lengths({"src/base/a.cc", "// " + repeat("\xc3\xbc", 117) + "\n"}), IsEmpty());
  EXPECT_EQ(to_string(check_lengths({"src/base/a.cc", "\n// " + repeat("u", 118) + "\n"})),
            "src/base/a.cc:2: 121 columns; at most 120\n");
}

TEST(PragmaOnce, BelongsInHeadersOnly) {
  EXPECT_THAT(check_pragma_once({"src/base/a.h", "#pragma once\n"}), IsEmpty());
  EXPECT_THAT(check_pragma_once({"src/base/a.cc", "int a;\n"}), IsEmpty());
  EXPECT_EQ(check_pragma_once({"src/base/a.h", "// #pragma once\n"}).size(), 1u);
  EXPECT_EQ(check_pragma_once({"src/base/a.cc", "#pragma once\n"}).size(), 1u);
}

TEST(Code, HasNoTabsAndNoUsingNamespace) {
  EXPECT_THAT(check_code({"src/base/a.cc", "// using namespace std\nusing a::b;\n"}), IsEmpty());
  EXPECT_THAT(to_string(check_code({"src/base/a.cc", "\n\tint a;\n"})), HasSubstr("a.cc:2: a tab"));
  EXPECT_THAT(to_string(check_code({"tests/base/a.cc", "\nusing  namespace std;\n"})),
              HasSubstr("a.cc:2: `using namespace`"));
}

TEST(Code, ReadsTheEnvironmentOnlyWhereOptionsAreRead) {
  const char* text = "auto a = std::getenv(\"HOME\");\n";
  for (const char* path : {"src/app/options.cc", "src/base/log.cc", "tests/base/a.cc"}) {
    EXPECT_THAT(check_code({path, text}), IsEmpty()) << path;
  }
  for (const char* path : {"src/base/net.cc", "src/engine/a.cc", "src/app_tools/a.cc"}) {
    EXPECT_EQ(check_code({path, text}).size(), 1u) << path;
  }
  EXPECT_EQ(check_code({"src/engine/a.cc", "auto a = secure_getenv(\"HOME\");\n"}).size(), 1u);
}

TEST(Place, EveryFileIsCompiled) {
  for (const char* path : {"src/base/a.cc", "src/ops/cpu/deep/a.cc", "src/app/main.cc", "tests/base/a_test.cc",
                           "tests/support/a.cc", "fuzz/jinja_fuzz.cc", "bench/ops_bench.cc", "bench/timing.h"}) {
    EXPECT_THAT(check_place({path, ""}), IsEmpty()) << path;
  }
  for (const char* path : {"main.cc", "src/main.cc", "src/app/sub/a.cc", "tests/a_test.cc", "tests/base/sub/a_test.cc",
                           "fuzz/jinja.cc", "bench/ops.cc", "tools/a.cc"}) {
    EXPECT_EQ(check_place({path, ""}).size(), 1u) << path;
  }
}

TEST(Words, ThatSayUnfinishedAreFound) {
  EXPECT_THAT(check_words("docs/a.md", "a todo list, hacking, X XX"), IsEmpty());
  EXPECT_EQ(to_string(check_words("docs/a.md",
                                  "one\n// TO"
                                  "DO(me): two\n")),
            "docs/a.md:2: the word 'TO"
            "DO'\n");
  EXPECT_EQ(check_words("a.py",
                        "FIX"
                        "ME")
                .size(),
            1u);
  EXPECT_EQ(check_words("a.py",
                        "good enough for"
                        " now")
                .size(),
            1u);
}

TEST(Includes, NameFilesThatExist) {
  std::vector<Source> sources = {{"src/base/a.h", ""},
                                 {"src/base/b.cc", "#include \"base/a.h\"\n#include \"base/gone.h\"\n"}};
  EXPECT_EQ(to_string(check_includes(sources)), "src/base/b.cc:2: no file \"base/gone.h\"\n");
}

TEST(Includes, AHeaderNeedsAReaderBesideItsOwnSource) {
  std::vector<Source> sources = {{"src/base/a.h", ""}, {"src/base/a.cc", "#include \"base/a.h\"\n"}};
  EXPECT_THAT(to_string(check_includes(sources)), HasSubstr("src/base/a.h:0: a dead header"));
  sources.emplace_back("tests/base/a_test.cc", "#include \"base/a.h\"\n");
  EXPECT_THAT(check_includes(sources), IsEmpty());
}

}  // namespace
}  // namespace hylas::tidy
