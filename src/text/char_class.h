#pragma once
// Character classes of the pre-tokenizer's regular expression, as Hugging Face's tokenizers library sees them.
#include <cstdint>

namespace hylas {

enum CharClass : uint8_t {
  kLetter = 1,   // \p{L}
  kNumber = 2,   // \p{N}
  kMark = 4,     // \p{M}
  kSpace = 8,    // \s
  kNewline = 16  // \r and \n
};

// The classes of every code point: 0x110000 entries. Built once, thread-safe.
const uint8_t* char_classes();

// True for characters that are newer than the Unicode tables of Hugging Face's normalizer: it neither reorders nor
// composes them.
bool is_opaque_to_nfc(int32_t code_point);

}  // namespace hylas
