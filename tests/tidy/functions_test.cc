#include "tidy/functions.h"

#include <gtest/gtest.h>

#include "tidy/source.h"

namespace hylas::tidy {
namespace {

// The {first, last} lines of the functions in `text`.
std::vector<std::pair<int, int>> functions(std::string_view text) {
  std::vector<std::pair<int, int>> lines;
  for (const Function& function : find_functions(code_only(text))) {
    lines.emplace_back(function.first_line, function.last_line);
  }
  return lines;
}

using Lines = std::vector<std::pair<int, int>>;

TEST(FindFunctions, InNamespacesClassesAndTests) {
  EXPECT_EQ(functions("namespace a::b {\nint f() {\n  return 1;\n}\n\nint g() { return 2; }\n}\n"),
            (Lines{{2, 4}, {6, 6}}));
  EXPECT_EQ(functions("class A {\n public:\n  int f() const {\n    return 1;\n  }\n private:\n  int x_ = 0;\n};\n"),
            (Lines{{3, 5}}));
  EXPECT_EQ(functions("TEST(Suite, Name) {\n  EXPECT_TRUE(true);\n}\n"), (Lines{{1, 3}}));
  EXPECT_EQ(functions("extern \"C\" {\nvoid f() {\n}\n}\n"), (Lines{{2, 3}}));
}

TEST(FindFunctions, TheSignatureCounts) {
  EXPECT_EQ(functions("// about f\n\nint f(int a,\n      int b) {\n  return a;\n}\n"), (Lines{{3, 6}}));
  EXPECT_EQ(functions("template <class T>\nT f(T a) {\n  return a;\n}\n"), (Lines{{1, 4}}));
  EXPECT_EQ(functions("template <class A, template <class> class B>\nstruct C {\n  int f() {\n  }\n};\n"),
            (Lines{{3, 4}}));
}

TEST(FindFunctions, InnerBlocksAndLambdasBelongToTheFunctionAround) {
  EXPECT_EQ(
      functions(
          "void f() {\n  if (a) {\n  }\n  auto g = [&](int x) {\n    return x;\n  };\n  struct L {\n    int h() {\n"
          "    }\n  };\n}\nvoid g() {\n}\n"),
      (Lines{{1, 11}, {12, 13}}));
}

TEST(FindFunctions, TablesAreNoFunctions) {
  EXPECT_EQ(
      functions("constexpr int kTable[] = {\n  f(1),\n  2,\n};\nconst std::map<int, int> kMap = {\n  {1, 2},\n};\n"),
      Lines{});
  EXPECT_EQ(functions("enum class Kind {\n  kA,\n  kB,\n};\nstruct Pair {\n  int a{1};\n  std::vector<int> b{};\n};\n"),
            Lines{});
}

TEST(FindFunctions, ConstructorsWithBracesInTheirList) {
  EXPECT_EQ(functions("A::A(int a)\n    : a_(a),\n      b_{1, 2},\n      c_{} {\n  f();\n}\nint g() {\n}\n"),
            (Lines{{1, 6}, {7, 8}}));
}

TEST(FindFunctions, MacrosAndTextInStringsAreLeftOut) {
  EXPECT_EQ(functions("#define F(x) \\\n  if (x) {  \\\n  }\nint g() {\n  return h(\"}}\");\n}\n"), (Lines{{4, 6}}));
}

TEST(FindFunctions, ReturnTypesAndQualifiers) {
  EXPECT_EQ(functions("auto f() -> std::vector<int> {\n}\nResult<A> B::c(int d) const noexcept {\n}\n"
                      "bool operator==(const A& a, const A& b) {\n}\n"),
            (Lines{{1, 2}, {3, 4}, {5, 6}}));
}

}  // namespace
}  // namespace hylas::tidy
