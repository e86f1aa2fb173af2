#include "text/stop_matcher.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

TEST(StopMatcher, CutsBeforeTheStop) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.push("some text END more"), "some text ");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.matched_stop(), "END");
  EXPECT_EQ(matcher.push("even more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, IncludesTheStopWhenAskedTo) {
  StopMatcher matcher({"END"}, true);
  EXPECT_EQ(matcher.push("text E"), "text ");
  EXPECT_EQ(matcher.push("ND more"), "END");
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldBecomeAStop) {
  StopMatcher matcher({"</s>", "stop"});
  EXPECT_EQ(matcher.push("a <"), "a ");
  EXPECT_EQ(matcher.push("b"), "<b");
  EXPECT_EQ(matcher.push(" sto"), " ");
  EXPECT_EQ(matcher.push("ry"), "story");
  EXPECT_EQ(matcher.push("st"), "");
  EXPECT_EQ(matcher.finish(), "st");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcher, TheStopThatIsCompleteFirstWins) {
  StopMatcher matcher({"abcd", "bc"});
  EXPECT_EQ(matcher.push("xabcd"), "xa");
  EXPECT_EQ(matcher.matched_stop(), "bc");
  StopMatcher longer({"c", "bc"});
  EXPECT_EQ(longer.push("xabcd"), "xa");
  EXPECT_EQ(longer.matched_stop(), "bc");
}

TEST(StopMatcher, EmptyStopsAreIgnored) {
  StopMatcher matcher({"", ""});
  EXPECT_EQ(matcher.push("text"), "text");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcher, NoCutOfTheTextChangesTheResult) {
  for (const std::string text : {"aabaabaab", "ababac", "aaaa", "xyz", "abaabaac"}) {
    for (bool include : {false, true}) {
      auto run = [&, include](size_t first, size_t second) {
        StopMatcher matcher({"aabaa", "abac", "aaaa"}, include);
        std::string out = matcher.push(text.substr(0, first));
        out += matcher.push(text.substr(first, second - first));
        out += matcher.push(text.substr(second));
        return out + matcher.finish() + (matcher.matched() ? "|" + matcher.matched_stop() : "");
      };
      std::string whole = run(0, 0);
      for (size_t i = 0; i <= text.size(); ++i) {
        for (size_t j = i; j <= text.size(); ++j) EXPECT_EQ(run(i, j), whole) << text << ' ' << i << ' ' << j;
      }
    }
  }
}

}  // namespace
}  // namespace hylas
