#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hylas {
namespace {

std::vector<std::string> pieces(std::string_view text, SplitRule rule = SplitRule::kQwen35) {
  std::vector<std::string> found;
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const char* next = piece_end(p, end, rule);
    found.emplace_back(p, next);
    p = next;
  }
  return found;
}

using Pieces = std::vector<std::string>;

TEST(Pretokenizer, WordsTakeOneCharacterBeforeThem) {
  EXPECT_EQ(pieces("Hello world"), (Pieces{"Hello", " world"}));
  EXPECT_EQ(pieces("a  b"), (Pieces{"a", " ", " b"}));
  EXPECT_EQ(pieces("(a)"), (Pieces{"(a", ")"}));
  EXPECT_EQ(pieces("\ta"), (Pieces{"\ta"}));
  EXPECT_EQ(pieces("\na"), (Pieces{"\n", "a"}));
}

TEST(Pretokenizer, ContractionsIgnoreCase) {
  EXPECT_EQ(pieces("don't I'LL he'S"), (Pieces{"don", "'t", " I", "'LL", " he", "'S"}));
  EXPECT_EQ(pieces("'\xc5\xbf"), (Pieces{"'\xc5\xbf"}));  // the long s
  EXPECT_EQ(pieces("'x"), (Pieces{"'x"}));
  EXPECT_EQ(pieces("'r"), (Pieces{"'r"}));
}

TEST(Pretokenizer, DigitsStandAlone) {
  EXPECT_EQ(pieces("12 3"), (Pieces{"1", "2", " ", "3"}));
  EXPECT_EQ(pieces("²x"), (Pieces{"²", "x"}));
}

TEST(Pretokenizer, SymbolsTakeASpaceBeforeAndNewlinesBehind) {
  EXPECT_EQ(pieces("a !?\n\nb"), (Pieces{"a", " !?\n\n", "b"}));
  EXPECT_EQ(pieces("  ="), (Pieces{" ", " ="}));
}

TEST(Pretokenizer, WhiteSpaceEndsWithItsLastNewline) {
  EXPECT_EQ(pieces("a \n \n  b"), (Pieces{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(pieces("a   "), (Pieces{"a", "   "}));
  EXPECT_EQ(pieces("1\u3000\u3000"
                   "2"),
            (Pieces{"1", "\u3000", "\u3000", "2"}));
}

TEST(Pretokenizer, MarksBelongToWordsSinceQwen35) {
  EXPECT_EQ(pieces("कि"), (Pieces{"कि"}));
  EXPECT_EQ(pieces("कि", SplitRule::kQwen2), (Pieces{"क", "ि"}));
  EXPECT_EQ(pieces("!\u0301a"), (Pieces{"!\u0301a"}));
}

TEST(Pretokenizer, BytesThatAreNoUtf8AreSymbols) { EXPECT_EQ(pieces("a\xff\xfe b"), (Pieces{"a", "\xff\xfe", " b"})); }

TEST(Pretokenizer, OnlyTheKnownExpressionsHaveARule) {
  EXPECT_EQ(split_rule_of_regex(R"(\s+)"), std::nullopt);
  EXPECT_EQ(split_rule_of_regex(""), std::nullopt);
}

}  // namespace
}  // namespace hylas
