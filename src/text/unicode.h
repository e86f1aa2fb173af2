#pragma once
// UTF-8 helpers of the text floor. All functions are pure and thread-safe.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hylas {

// True if `bytes` is well-formed UTF-8 (no overlong forms, surrogates or code points above U+10FFFF).
bool is_valid_utf8(std::string_view bytes);

// One decoded character. A byte that starts no well-formed sequence decodes as U+FFFD with length 1.
struct Utf8Char {
  int32_t code_point;
  int length;  // bytes
};
Utf8Char decode_utf8(const char* begin, const char* end);

void append_utf8(int32_t code_point, std::string& out);

// Bytes at the end of `bytes` that begin a character and could still become a whole one: 0 to 3.
size_t incomplete_utf8_tail(std::string_view bytes);

// Ill-formed sequences become U+FFFD, one per maximal ill-formed part: what Python's errors="replace" gives.
std::string replace_invalid_utf8(std::string_view bytes);

// `utf8` in normalization form C. Ill-formed UTF-8 comes back as it is.
std::string to_nfc(std::string_view utf8);
// False if `utf8` surely is in form C already: the fast path around to_nfc.
bool may_change_in_nfc(std::string_view utf8);

}  // namespace hylas
