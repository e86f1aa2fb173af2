#pragma once
// A source file as the tidy rules see it.
#include <string>
#include <string_view>
#include <vector>

namespace hylas::tidy {

// `text` with every comment, string and character literal blanked: spaces for their characters, line ends kept, so that
// offsets and line numbers stay true.
std::string code_only(std::string_view text);

struct Include {
  int line = 0;      // from 1
  std::string path;  // as written between the quotes; system headers (<...>) are left out
};

struct Source {
  Source(std::string file_path, std::string file_text);
  std::string path;                // from the repository's root
  std::string text;                // the bytes of the file
  std::string code;                // code_only(text)
  std::vector<std::string> lines;  // of `text`, without line ends
  std::vector<Include> includes;
};

std::vector<std::string> split_lines(std::string_view text);
int line_of(std::string_view text, size_t offset);  // from 1
// Characters, not bytes, of UTF-8 text.
size_t width(std::string_view line);
// The offset of `word` at or after `from` where it stands alone (no letter, digit or _ beside it), or npos.
size_t find_word(std::string_view text, std::string_view word, size_t from = 0);
bool is_word_character(char character);

}  // namespace hylas::tidy
