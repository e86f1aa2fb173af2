#include "text/unicode.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

TEST(Unicode, WellFormedTextIsValid) {
  for (const char* text :
       {"", "ascii only, longer than eight bytes", "é", "漢字", "\U0001F600", "\U0010FFFF", "\uD7FF"}) {
    EXPECT_TRUE(is_valid_utf8(text)) << text;
  }
}

TEST(Unicode, IllFormedTextIsNot) {
  for (std::string_view text : {"\x80", "\xff", "\xc3", "a\xe6\xbc", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80",
                                "\xf4\x90\x80\x80", "\xf0\x80\x80\x80", "12345678\xfe"}) {
    EXPECT_FALSE(is_valid_utf8(text));
  }
}

TEST(Unicode, EncodingIsTheReverseOfDecoding) {
  for (int32_t c : {0, 0x41, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff}) {
    std::string bytes;
    append_utf8(c, bytes);
    Utf8Char decoded = decode_utf8(bytes.data(), bytes.data() + bytes.size());
    EXPECT_EQ(decoded.code_point, c);
    EXPECT_EQ(decoded.length, static_cast<int>(bytes.size()));
  }
}

TEST(Unicode, TheTailIsWhatCouldStillBecomeACharacter) {
  EXPECT_EQ(incomplete_utf8_tail("ab"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("a\xe6"), 1u);
  EXPECT_EQ(incomplete_utf8_tail("a\xe6\xbc"), 2u);
  EXPECT_EQ(incomplete_utf8_tail("a\xe6\xbc\xa2"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xf0\x9f\x98"), 3u);
  EXPECT_EQ(incomplete_utf8_tail("\xe6\x41"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\x80\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xff"), 0u);
}

TEST(Unicode, EveryMaximalIllFormedPartBecomesOneReplacement) {
  EXPECT_EQ(replace_invalid_utf8("a\xff"
                                 "b"),
            "a\ufffdb");
  EXPECT_EQ(replace_invalid_utf8("\xe6\xbc"), "\ufffd");  // a character cut short
  EXPECT_EQ(replace_invalid_utf8("\xe6\xbc"
                                 "a"),
            "\ufffda");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");  // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\xf0\x9f\x98\x80"), "\ufffd\U0001F600");
}

TEST(Unicode, NfcComposesAndReorders) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("a\u0315\u0300"), "\u00e0\u0315");
  EXPECT_EQ(to_nfc("\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(to_nfc("\u304b\u3099"), "\u304c");
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093c");
  EXPECT_EQ(to_nfc("\xff"
                   "e\u0301"),
            "\xff"
            "e\u0301");  // ill-formed text is left alone
}

TEST(Unicode, MarksNewerThanHuggingFacesTablesStayWhereTheyAre) {
  EXPECT_EQ(to_nfc("\u1df6\u0322"), "\u1df6\u0322");  // Unicode would reorder these
  EXPECT_EQ(to_nfc("\U00011935\U00011930"), "\U00011935\U00011930");
}

TEST(Unicode, TheQuickCheckNeverMissesAChange) {
  for (int32_t c = 0x80; c < 0x20000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    for (const char* before : {"", "a", "\u304b", "\u1100", "\uac00", "\u0915"}) {
      std::string text = before;
      append_utf8(c, text);
      if (may_change_in_nfc(text)) continue;
      ASSERT_EQ(to_nfc(text), text) << std::hex << c;
    }
  }
  EXPECT_FALSE(may_change_in_nfc("Plain text, élève, кириллица, 漢字、かな，한글 – 😀"));
}

}  // namespace
}  // namespace hylas
