#include "text/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>

#include "text/char_class.h"

namespace hylas {
namespace {

constexpr int32_t kReplacement = 0xfffd;

// Length of the well-formed prefix of one character at p (0 to 4): less than its whole length where it breaks off.
// `whole` is the length its first byte promises, 1 for a byte that cannot start a character.
struct Sequence {
  int whole;
  int valid;
};

Sequence measure(const unsigned char* p, const unsigned char* end) {
  unsigned char lead = *p;
  if (lead < 0x80) return {1, 1};
  if (lead < 0xc2 || lead > 0xf4) return {1, 0};
  int whole = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned char low = 0x80, high = 0xbf;  // limits of the second byte: no overlong forms, surrogates or > U+10FFFF
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  int valid = 1;
  while (valid < whole && p + valid < end && p[valid] >= low && p[valid] <= high) {
    low = 0x80, high = 0xbf;
    ++valid;
  }
  return {whole, valid};
}

const unsigned char* bytes_of(const char* p) { return reinterpret_cast<const unsigned char*>(p); }

// Skips ASCII, eight bytes at a time.
const unsigned char* skip_ascii(const unsigned char* p, const unsigned char* end) {
  while (end - p >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    if (word & 0x8080808080808080u) break;
    p += 8;
  }
  while (p < end && *p < 0x80) ++p;
  return p;
}

// Common characters that neither decompose nor combine with what stands before them. p: at least the bytes of one.
bool is_stable_in_nfc(const unsigned char* p) {
  switch (p[0]) {
    case 0xd0:
    case 0xd1:  // U+0400..U+047F, Cyrillic
      return true;
    case 0xe2:  // U+2010..U+203F, punctuation
      return p[1] == 0x80 && p[2] >= 0x90;
    case 0xe3:  // U+3000..U+3029 and kana without the combining voicing marks
      if (p[1] == 0x80) return p[2] < 0xaa;
      return p[1] < 0x84 && !(p[1] == 0x82 && (p[2] == 0x99 || p[2] == 0x9a));
    case 0xea:  // U+AC00..U+D77F, Hangul syllables
      return p[1] >= 0xb0;
    case 0xed:
      return p[1] < 0x9e;
    case 0xef:  // U+FF00..U+FF7F, full-width forms
      return p[1] == 0xbc || p[1] == 0xbd;
    case 0xf0:  // U+1F000..U+1FFFF, emoji
      return p[1] == 0x9f;
    default:  // U+0080..U+02FF, U+4000..U+9FFF (ideographs), U+B000..U+CFFF (Hangul)
      return p[0] < 0xcc || (p[0] >= 0xe4 && p[0] <= 0xe9) || p[0] == 0xeb || p[0] == 0xec;
  }
}

void append_nfc(std::string_view part, std::string& out) {
  if (part.empty()) return;
  utf8proc_uint8_t* mapped = nullptr;
  utf8proc_ssize_t length = utf8proc_map(bytes_of(part.data()), static_cast<utf8proc_ssize_t>(part.size()), &mapped,
                                         static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) {
    out.append(part);
    return;
  }
  out.append(reinterpret_cast<char*>(mapped), static_cast<size_t>(length));
  std::free(mapped);
}

}  // namespace

bool is_valid_utf8(std::string_view bytes) {
  const unsigned char* p = bytes_of(bytes.data());
  const unsigned char* end = p + bytes.size();
  while ((p = skip_ascii(p, end)) < end) {
    Sequence sequence = measure(p, end);
    if (sequence.valid != sequence.whole) return false;
    p += sequence.whole;
  }
  return true;
}

Utf8Char decode_utf8(const char* begin, const char* end) {
  const unsigned char* p = bytes_of(begin);
  Sequence sequence = measure(p, bytes_of(end));
  if (sequence.valid != sequence.whole) return {kReplacement, 1};
  switch (sequence.whole) {
    case 1:
      return {p[0], 1};
    case 2:
      return {(p[0] & 0x1f) << 6 | (p[1] & 0x3f), 2};
    case 3:
      return {(p[0] & 0x0f) << 12 | (p[1] & 0x3f) << 6 | (p[2] & 0x3f), 3};
    default:
      return {(p[0] & 0x07) << 18 | (p[1] & 0x3f) << 12 | (p[2] & 0x3f) << 6 | (p[3] & 0x3f), 4};
  }
}

void append_utf8(int32_t code_point, std::string& out) {
  auto put = [&](int32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3f));
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

size_t incomplete_utf8_tail(std::string_view bytes) {
  const unsigned char* end = bytes_of(bytes.data()) + bytes.size();
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const unsigned char* p = end - back;
    if ((*p & 0xc0) == 0x80) continue;  // a continuation byte: look for its lead
    Sequence sequence = measure(p, end);
    return sequence.valid == static_cast<int>(back) && sequence.valid < sequence.whole ? back : 0;
  }
  return 0;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  const unsigned char* p = bytes_of(bytes.data());
  const unsigned char* end = p + bytes.size();
  while (p < end) {
    Sequence sequence = measure(p, end);
    if (sequence.valid == sequence.whole) {
      out.append(reinterpret_cast<const char*>(p), sequence.whole);
      p += sequence.whole;
    } else {
      append_utf8(kReplacement, out);
      p += sequence.valid > 0 ? sequence.valid : 1;
    }
  }
  return out;
}

bool may_change_in_nfc(std::string_view utf8) {
  const unsigned char* p = bytes_of(utf8.data());
  const unsigned char* end = p + utf8.size();
  while ((p = skip_ascii(p, end)) < end) {
    int length = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    if (end - p < length || !is_stable_in_nfc(p)) return true;
    p += length;
  }
  return false;
}

std::string to_nfc(std::string_view utf8) {
  if (!is_valid_utf8(utf8)) return std::string(utf8);
  std::string out;
  out.reserve(utf8.size());
  size_t part = 0;
  for (size_t i = 0; i < utf8.size();) {
    Utf8Char c = decode_utf8(utf8.data() + i, utf8.data() + utf8.size());
    if (c.code_point >= 0x7fd && is_opaque_to_nfc(c.code_point)) {
      append_nfc(utf8.substr(part, i - part), out);
      out.append(utf8, i, c.length);
      part = i + c.length;
    }
    i += c.length;
  }
  append_nfc(utf8.substr(part), out);
  return out;
}

}  // namespace hylas
