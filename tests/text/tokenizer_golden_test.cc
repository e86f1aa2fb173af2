// The cases were written by Hugging Face's tokenizers: ids and decoded text must be equal, for a tiny vocabulary and
// for Qwen3.5's own.
#include "text/detokenizer.h"
#include "text/text_test_data.h"

namespace hylas {
namespace {

void check_cases(const Tokenizer& tokenizer, const std::string& vocabulary) {
  boost::json::value cases = test_data_json("tests/data/text/tokenizer_cases.json");
  for (const boost::json::value& entry : cases.at("cases").as_array()) {
    std::string text(entry.at("text").as_string());
    SCOPED_TRACE(text);
    auto expected = boost::json::value_to<std::vector<int32_t>>(entry.at(vocabulary));
    std::vector<int32_t> ids = tokenizer.encode(text);
    EXPECT_EQ(ids, expected);
    std::string decoded(entry.at(vocabulary + "_decoded_skip_special").as_string());
    EXPECT_EQ(tokenizer.decode(expected, true), decoded);
    Detokenizer detokenizer(tokenizer, true);
    std::string streamed;
    for (int32_t id : expected) streamed += detokenizer.push(id);
    EXPECT_EQ(streamed + detokenizer.finish(), decoded);
  }
}

TEST(TokenizerGolden, TinyVocabulary) { check_cases(tiny_tokenizer(), "tiny"); }
TEST(TokenizerGolden, RealVocabulary) { check_cases(real_tokenizer(), "real"); }

}  // namespace
}  // namespace hylas
