#include "text/byte_alphabet.h"

#include <array>

#include "text/unicode.h"

namespace hylas {
namespace {

constexpr int kCodePoints = 256 + 68;  // 188 bytes are their own character, the other 68 follow from U+0100

std::array<int16_t, kCodePoints> build_bytes() {
  std::array<int16_t, kCodePoints> bytes;
  bytes.fill(-1);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    bytes[printable ? byte : next++] = static_cast<int16_t>(byte);
  }
  return bytes;
}

}  // namespace

std::optional<std::string> bytes_of_alphabet(std::string_view spelled) {
  static const std::array<int16_t, kCodePoints> bytes = build_bytes();
  std::string out;
  const char* end = spelled.data() + spelled.size();
  for (const char* p = spelled.data(); p < end;) {
    Utf8Char c = decode_utf8(p, end);
    if (c.code_point >= kCodePoints || bytes[c.code_point] < 0) return std::nullopt;
    out.push_back(static_cast<char>(bytes[c.code_point]));
    p += c.length;
  }
  return out;
}

}  // namespace hylas
