#pragma once
// Byte-level BPE of a Hugging Face tokenizer.json (model.md section 6): NFC, the Qwen pre-tokenizer, added tokens.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hylas {

struct TokenizerData;

// Immutable after load; every method may be called from any thread.
class Tokenizer {
 public:
  // Reads tokenizer.json, and added tokens that only tokenizer_config.json lists. kNotFound: no tokenizer.json;
  // kInvalid: not a tokenizer file; kUnsupported: a normalizer, pre-tokenizer, model or flag other than the family's.
  static Result<std::unique_ptr<Tokenizer>> load(const std::string& model_dir);
  // The same from the files' contents; `tokenizer_config_json` may be empty.
  static Result<std::unique_ptr<Tokenizer>> parse(std::string_view tokenizer_json,
                                                  std::string_view tokenizer_config_json);
  ~Tokenizer();

  // Ids as Hugging Face's encode gives them. With parse_added_tokens = false, text such as <|im_end|> is split like any
  // other, so that it cannot forge a control token. Bytes that are not UTF-8 get the tokens of the bytes.
  std::vector<int32_t> encode(std::string_view utf8, bool parse_added_tokens = true) const;
  // Text of the ids; ill-formed UTF-8 becomes U+FFFD. Ids without a token (padding rows, negative) give nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // The raw bytes an id stands for (maybe part of a character); empty for an id without a token.
  std::string_view token_bytes(int32_t id) const;
  // True for added tokens marked special, the ones that skip_special_tokens drops.
  bool is_special(int32_t id) const;
  // True for every added token, special or not (<think> and <tool_call> are added, but not special).
  bool is_added(int32_t id) const;
  // The id of an added token's content or of a vocabulary entry's raw bytes.
  std::optional<int32_t> token_id(std::string_view token) const;
  // Highest id + 1. The model's embedding may have more rows.
  int32_t vocab_size() const;

 private:
  explicit Tokenizer(std::unique_ptr<const TokenizerData> data);
  std::unique_ptr<const TokenizerData> data_;
};

}  // namespace hylas
