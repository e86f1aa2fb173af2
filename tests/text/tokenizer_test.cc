#include "text/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "text/text_test_data.h"

namespace hylas {
namespace {

using Ids = std::vector<int32_t>;

std::string tiny_json() { return test_data_text("tests/data/text/tiny/tokenizer.json"); }

// The tiny tokenizer.json with one change.
template <class F>
std::string changed_json(const F& change) {
  boost::json::value root = boost::json::parse(tiny_json());
  change(root.as_object());
  return boost::json::serialize(root);
}

Error load_error(const std::string& tokenizer_json, const std::string& config = {}) {
  auto tokenizer = Tokenizer::parse(tokenizer_json, config);
  return tokenizer ? (ADD_FAILURE() << "it loaded", Error{}) : tokenizer.error();
}

TEST(Tokenizer, AddedTokensAreCutOutOfTheTextWhereverTheyStand) {
  const Tokenizer& tokenizer = real_tokenizer();
  EXPECT_EQ(tokenizer.encode("<|im_end|>"), Ids{248046});
  EXPECT_EQ(tokenizer.encode("a<think>b"), (Ids{64, 248068, 65}));
  EXPECT_EQ(tokenizer.encode("<|im_end|><|im_end|>"), (Ids{248046, 248046}));
  EXPECT_EQ(tokenizer.encode("<tts_text_bos_single>"), Ids{248075});  // the longest of two that begin alike
  EXPECT_EQ(tokenizer.encode("<tts_text_bos>"), Ids{248073});
}

TEST(Tokenizer, TextThatMustNotControlIsSplitLikeAnyOther) {
  const Tokenizer& tokenizer = real_tokenizer();
  Ids ids = tokenizer.encode("a<|im_end|>", false);
  EXPECT_EQ(std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return tokenizer.is_added(id); }), 0);
  EXPECT_EQ(tokenizer.decode(ids, true), "a<|im_end|>");
}

TEST(Tokenizer, SkippingSpecialTokensKeepsTagsThatAreNotSpecial) {
  const Tokenizer& tokenizer = real_tokenizer();
  Ids ids = tokenizer.encode("<|im_start|><think>x</think><tool_call><|im_end|>");
  EXPECT_EQ(tokenizer.decode(ids, true), "<think>x</think><tool_call>");
  EXPECT_EQ(tokenizer.decode(ids, false), "<|im_start|><think>x</think><tool_call><|im_end|>");
}

TEST(Tokenizer, IdsWithoutATokenGiveNothing) {
  const Tokenizer& tokenizer = real_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 248077);
  EXPECT_EQ(tokenizer.decode(Ids{64, 248077, 248319, -1, 1 << 30, 65}, false), "ab");
  EXPECT_EQ(tokenizer.token_bytes(248100), "");
  EXPECT_FALSE(tokenizer.is_special(248100));
  EXPECT_FALSE(tokenizer.is_added(-5));
}

TEST(Tokenizer, TokensAreFoundByContent) {
  const Tokenizer& tokenizer = real_tokenizer();
  EXPECT_EQ(tokenizer.token_id("</think>"), 248069);
  EXPECT_EQ(tokenizer.token_id(" hello"), 23066);
  EXPECT_EQ(tokenizer.token_id("no token has this text"), std::nullopt);
  EXPECT_EQ(tokenizer.token_id(""), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes(23066), " hello");
}

TEST(Tokenizer, AddedTokensThatOnlyTheConfigurationListsAreAdded) {
  std::string without = changed_json([](boost::json::object& root) { root["added_tokens"].as_array().resize(26); });
  auto tokenizer = Tokenizer::parse(without, test_data_text("tests/data/text/tiny/tokenizer_config.json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->encode("<tts_pad><|audio_pad|>"), tiny_tokenizer().encode("<tts_pad><|audio_pad|>"));
  EXPECT_TRUE((*tokenizer)->is_special(1032));
  EXPECT_EQ((*Tokenizer::parse(without, ""))->vocab_size(), 1026);
}

TEST(Tokenizer, MarksAreSymbolsUnderQwen2sRule) {
  std::string qwen2 = changed_json([](boost::json::object& root) {
    root.at("pre_tokenizer").at("pretokenizers").at(0).at("pattern").as_object()["Regex"] =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
        R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
  });
  auto tokenizer = Tokenizer::parse(qwen2, "");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  std::string text = "कि and more";
  EXPECT_EQ((*tokenizer)->decode((*tokenizer)->encode(text), false), text);
}

TEST(Tokenizer, BytesThatAreNoUtf8KeepTheirTokens) {
  const Tokenizer& tokenizer = tiny_tokenizer();
  std::string broken =
      "a\xff\xe6\xbc"
      "b\xc3";
  std::string bytes;
  for (int32_t id : tokenizer.encode(broken)) bytes += tokenizer.token_bytes(id);
  EXPECT_EQ(bytes, broken);
}

TEST(Tokenizer, MergesAreWrittenAsPairsOrAsOneString) {
  std::string joined = changed_json([](boost::json::object& root) {
    for (boost::json::value& merge : root.at("model").at("merges").as_array()) {
      std::string pair(merge.at(0).as_string());
      merge = pair + " " + std::string(merge.at(1).as_string());
    }
  });
  auto tokenizer = Tokenizer::parse(joined, "");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->encode("Hello, world!"), tiny_tokenizer().encode("Hello, world!"));
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const std::string text = "Threads share one tokenizer: 漢字, кириллица, e\xcc\x81 and <|im_end|>.";
  Ids expected = tiny_tokenizer().encode(text);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) wrong += tiny_tokenizer().encode(text) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Tokenizer, WhatTheFamilyNeverHasIsRefusedByName) {
  auto set = [](const char* section, const char* key, boost::json::value value) {
    return changed_json([&](boost::json::object& root) { root.at(section).as_object()[key] = value; });
  };
  struct Case {
    std::string json;
    const char* names;
  };
  for (const Case& c : std::vector<Case>{
           {set("model", "type", "Unigram"), "model has type 'Unigram'"},
           {set("model", "ignore_merges", true), "model.ignore_merges is true"},
           {set("model", "byte_fallback", true), "model.byte_fallback"},
           {set("model", "dropout", 0.1), "model.dropout"},
           {set("normalizer", "type", "NFKC"), "normalizer has type 'NFKC'"},
           {set("decoder", "type", "Metaspace"), "decoder has type 'Metaspace'"},
           {changed_json([](boost::json::object& root) {
              root.at("pre_tokenizer").at("pretokenizers").at(0).at("pattern").as_object()["Regex"] = "\\w+";
            }),
            "\\w+"},
           {changed_json([](boost::json::object& root) { root.at("added_tokens").at(3).as_object()["lstrip"] = true; }),
            "lstrip"},
       }) {
    Error error = load_error(c.json);
    EXPECT_EQ(error.code, ErrorCode::kUnsupported) << error.message;
    EXPECT_NE(error.message.find(c.names), std::string::npos) << error.message;
  }
}

TEST(Tokenizer, BrokenFilesAreInvalid) {
  struct Case {
    std::string json;
    const char* names;
  };
  for (const Case& c : std::vector<Case>{
           {"", "tokenizer.json"},
           {"[]", "tokenizer.json"},
           {"{}", "normalizer"},
           {changed_json([](auto& root) { root.at("model").at("vocab").as_object()["!"] = -1; }), "'!'"},
           {changed_json([](auto& root) { root.at("model").at("vocab").as_object()["!"] = 1; }), "another token"},
           {changed_json([](auto& root) { root.at("model").at("vocab").as_object().erase("!"); }), "byte 33"},
           {changed_json([](auto& root) { root.at("model").at("merges").as_array()[0] = "x"; }), "merges[0]"},
           {changed_json(
                [](auto& root) { root.at("model").at("merges").as_array()[7] = boost::json::array{"zq", "qz"}; }),
            "merges[7]"},
           {changed_json([](auto& root) { root.at("added_tokens").at(0).as_object()["id"] = 5; }), "another token"},
           {changed_json([](auto& root) { root.at("added_tokens").as_array()[2] = 5; }), "added_tokens[2]"},
           {changed_json([](auto& root) { root.at("added_tokens").at(0).as_object()["content"] = ""; }), "content"},
       }) {
    Error error = load_error(c.json);
    EXPECT_EQ(error.code, ErrorCode::kInvalid) << error.message;
    EXPECT_NE(error.message.find(c.names), std::string::npos) << error.message;
  }
  EXPECT_EQ(load_error(tiny_json(), R"({"added_tokens_decoder": {"x": {"content": "<new>"}}})").code,
            ErrorCode::kInvalid);
}

TEST(Tokenizer, AMissingFileIsNotFound) {
  auto tokenizer = Tokenizer::load(source_path("tests/data/text"));
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hylas
