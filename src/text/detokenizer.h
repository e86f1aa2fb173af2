#pragma once
// Incremental detokenization: ids in, whole characters out.
#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace hylas {

// One per output sequence; not thread-safe. The tokenizer must outlive it.
// The concatenation of all push() results and finish() equals Tokenizer::decode of all ids.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);
  // The text that became certain with this id. Never ends inside a character: an incomplete one is held back.
  std::string push(int32_t id);
  // The end of the output: U+FFFD if a character was left incomplete, else nothing.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::string held_;  // bytes of an incomplete character, at most 3
};

}  // namespace hylas
