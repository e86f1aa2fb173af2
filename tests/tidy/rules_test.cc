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

constexpr const char* kFloors = "# lowest first\nbase:\ntensor: base\nops: base tensor\nserve: base\n";

Findings floor_findings(const std::string& path, const std::string& include) {
  return check_floors(Source(path, "#pragma once\n#include \"" + include + "\"\n"), parse_floors(kFloors));
}

TEST(Floors, AFloorIncludesItselfAndThoseItNames) {
  for (const char* include : {"ops/ops.h", "ops/cpu/a.h", "tensor/t.h", "base/b.h"}) {
    EXPECT_THAT(floor_findings("src/ops/cpu/a.cc", include), IsEmpty()) << include;
  }
  EXPECT_THAT(floor_findings("src/base/a.h", "base/b.h"), IsEmpty());
  EXPECT_THAT(floor_findings("tests/tensor/a_test.cc", "serve/s.h"), IsEmpty());
}

TEST(Floors, AnyOtherIncludeIsRefused) {
  std::pair<const char*, const char*> cases[] = {
      {"src/base/a.h", "tensor/t.h"}, {"src/tensor/a.h", "ops/o.h"},       {"src/ops/cpu/a.cc", "serve/s.h"},
      {"src/serve/a.h", "ops/o.h"},   {"src/ops/a.h", "support/random.h"}, {"src/ops/a.h", "beside.h"},
  };
  for (auto [path, include] : cases) {
    Findings findings = floor_findings(path, include);
    ASSERT_EQ(findings.size(), 1u) << path << " -> " << include;
    EXPECT_EQ(findings[0].line, 2);
  }
}

TEST(Floors, AFolderThatIsNoFloorIsRefused) {
  EXPECT_THAT(to_string(floor_findings("src/utils/a.h", "base/b.h")), HasSubstr("src/utils is no floor"));
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
