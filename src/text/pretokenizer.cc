#include "text/pretokenizer.h"

#include "text/char_class.h"
#include "text/unicode.h"

namespace hylas {
namespace {

constexpr std::string_view kQwen35Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Scanner {
  const char* end;
  const uint8_t* classes;
  uint8_t word;    // classes that make up words
  uint8_t symbol;  // a symbol is in none of these

  Utf8Char at(const char* p) const {
    if (static_cast<unsigned char>(*p) < 0x80) return {*p, 1};
    return decode_utf8(p, end);
  }
  uint8_t class_at(const char* p, int& length) const {
    Utf8Char c = at(p);
    length = c.length;
    return classes[c.code_point];
  }
  // Behind the run of characters in (wanted) or outside of (not wanted) the mask.
  const char* run(const char* p, uint8_t mask, bool wanted) const {
    for (int length; p < end; p += length) {
      if (((class_at(p, length) & mask) != 0) != wanted) break;
    }
    return p;
  }
};

// (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe; also 's with the long s, its only other case variant. nullptr: none.
const char* contraction_end(const char* p, const char* end) {
  auto lower = [&](int i) { return end - p > i ? p[i] | 0x20 : 0; };
  int first = lower(1), second = lower(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return p + 3;
  if (first == 'l' && second == 'l') return p + 3;
  if (end - p > 2 && p[1] == '\xc5' && p[2] == '\xbf') return p + 3;
  return nullptr;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at white space.
const char* space_end(const char* begin, const Scanner& scanner) {
  const char* after_newline = nullptr;
  const char* last = begin;
  const char* p = begin;
  for (int length; p < scanner.end; p += length) {
    uint8_t char_class = scanner.class_at(p, length);
    if (!(char_class & kSpace)) break;
    last = p;
    if (char_class & kNewline) after_newline = p + length;
  }
  if (after_newline) return after_newline;
  return p < scanner.end && last > begin ? last : p;
}

}  // namespace

std::optional<SplitRule> split_rule_of_regex(std::string_view regex) {
  if (regex == kQwen35Regex) return SplitRule::kQwen35;
  if (regex == kQwen2Regex) return SplitRule::kQwen2;
  return std::nullopt;
}

const char* piece_end(const char* begin, const char* end, SplitRule rule) {
  uint8_t word = rule == SplitRule::kQwen35 ? kLetter | kMark : kLetter;
  Scanner scanner{end, char_classes(), word, static_cast<uint8_t>(kSpace | kNumber | word)};
  if (*begin == '\'') {
    if (const char* contraction = contraction_end(begin, end)) return contraction;
  }
  int length;
  uint8_t first = scanner.class_at(begin, length);
  const char* second = begin + length;

  // [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+
  if (first & word) return scanner.run(second, word, true);
  if (!(first & (kNewline | kLetter | kNumber)) && second < end) {
    int second_length;
    if (scanner.class_at(second, second_length) & word) return scanner.run(second + second_length, word, true);
  }
  if (first & kNumber) return second;

  // ' ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*'
  const char* symbols = *begin == ' ' ? second : begin;
  const char* symbols_end = scanner.run(symbols, scanner.symbol, false);
  if (symbols_end > symbols) {
    while (symbols_end < end && (*symbols_end == '\r' || *symbols_end == '\n')) ++symbols_end;
    return symbols_end;
  }
  return space_end(begin, scanner);
}

}  // namespace hylas
