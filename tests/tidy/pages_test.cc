#include "tidy/pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas::tidy {
namespace {

using testing::IsEmpty;

Named named_of(std::string text) {
  return {
      .pages = {{"docs/here.md", std::move(text)}, {"README.md", "# Top\n## What `a` step, takes\n"}},
      .files = {"README.md", "docs/here.md", "src/base/result.h", "src/ops/cuda/quantize.cu", "tests/text/a_test.cc"},
      .makefile = ".PHONY: test\n\ntest-asan:\n\tninja\n",
      .tests = "TEST(Tokenizer, Encodes) {}"};
}

std::string found(Findings (*rule)(const Page&, const Named&), const std::string& text) {
  const Named named = named_of(text);
  return to_string(rule(named.pages[0], named));
}

TEST(Pages, AnAnchorIsTheHeadingInSmallLettersWithoutMarks) {
  EXPECT_EQ(anchor_of("What `a` step, takes"), "what-a-step-takes");
  EXPECT_EQ(anchor_of("Prefill: PP4 x TP2"), "prefill-pp4-x-tp2");
}

TEST(Pages, LinksLeadToFilesFoldersAndHeadings) {
  EXPECT_THAT(found(check_links,
                    "# Mine\n[a](../README.md) [b](#mine) [c](../src) [d](https://x.y/z#q)\n"
                    "[e](../README.md#what-a-step-takes)"),
              IsEmpty());
  EXPECT_EQ(found(check_links, "\n[a](README.md)"),
            "docs/here.md:2: the link leads to docs/README.md, which is not there\n");
  EXPECT_EQ(found(check_links, "[a](../README.md#step)"), "docs/here.md:1: README.md has no heading #step\n");
  EXPECT_EQ(found(check_links, "[a](#mine)"), "docs/here.md:1: docs/here.md has no heading #mine\n");
}

TEST(Pages, PathsAreThoseOfFiles) {
  EXPECT_THAT(found(check_paths, "`src/base`, src/base/result, tests/<name>_test.cc, `quantize.cu`, base/result.h."),
              IsEmpty());
  EXPECT_EQ(found(check_paths, "`src/bass/result`"), "docs/here.md:1: there is no src/bass/result\n");
  EXPECT_EQ(found(check_paths, "x\n(quantise.cu)"), "docs/here.md:2: there is no quantise.cu\n");
  EXPECT_EQ(found(check_paths, "ops/quantize.cu"), "docs/here.md:1: there is no ops/quantize.cu\n");
}

TEST(Pages, CommandsNameTargetsProgramsAndTests) {
  EXPECT_THAT(found(check_commands,
                    "`make test-asan`, which make more sense, build/asan/test_text\n"
                    "build/release/test_text --gtest_filter='Tokenizer.*:*Enc*'"),
              IsEmpty());
  EXPECT_EQ(found(check_commands, "a\nmake tests\n"), "docs/here.md:2: make has no target tests\n");
  EXPECT_EQ(found(check_commands, "build/release/test_txt"), "docs/here.md:1: there is no test_txt\n");
  EXPECT_EQ(found(check_commands, "--gtest_filter='Tokeniser.*'"), "docs/here.md:1: no test is called Tokeniser\n");
}

}  // namespace
}  // namespace hylas::tidy
