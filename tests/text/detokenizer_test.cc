#include "text/detokenizer.h"

#include <random>

#include "text/text_test_data.h"
#include "text/unicode.h"

namespace hylas {
namespace {

std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
  Detokenizer detokenizer(tokenizer, skip_special);
  std::string text;
  for (int32_t id : ids) {
    std::string part = detokenizer.push(id);
    EXPECT_TRUE(is_valid_utf8(part));
    text += part;
  }
  return text + detokenizer.finish();
}

TEST(Detokenizer, HoldsBackHalfACharacter) {
  const Tokenizer& tokenizer = tiny_tokenizer();
  std::vector<int32_t> bytes;
  for (unsigned char byte : std::string("😀")) bytes.push_back(*tokenizer.token_id(std::string(1, byte)));
  Detokenizer detokenizer(tokenizer, true);
  EXPECT_EQ(detokenizer.push(bytes[0]), "");
  EXPECT_EQ(detokenizer.push(bytes[1]), "");
  EXPECT_EQ(detokenizer.push(bytes[2]), "");
  EXPECT_EQ(detokenizer.push(bytes[3]), "😀");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, ABrokenTailEndsAsAReplacementCharacter) {
  Detokenizer detokenizer(tiny_tokenizer(), true);
  EXPECT_EQ(detokenizer.push(*tiny_tokenizer().token_id("\xe6")), "");
  EXPECT_EQ(detokenizer.finish(), "\ufffd");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, SpecialTokensAreSkippedOrShown) {
  std::vector<int32_t> ids = tiny_tokenizer().encode("a<|im_end|><think>");
  EXPECT_EQ(stream(tiny_tokenizer(), ids, true), "a<think>");
  EXPECT_EQ(stream(tiny_tokenizer(), ids, false), "a<|im_end|><think>");
}

TEST(Detokenizer, EqualsDecodingForAnyIds) {
  constexpr unsigned kSeed = 11;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> ids(random() % 40);
    // Mostly single bytes, so that characters break in every way.
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % (random() % 4 ? 256 : 1056));
    bool skip = random() % 2;
    ASSERT_EQ(stream(tiny_tokenizer(), ids, skip), tiny_tokenizer().decode(ids, skip)) << "seed " << kSeed;
  }
}

}  // namespace
}  // namespace hylas
