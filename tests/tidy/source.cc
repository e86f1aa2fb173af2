#include "tidy/source.h"

#include <algorithm>
#include <regex>
#include <utility>

namespace hylas::tidy {
namespace {

// Walks over a text and blanks what is not code.
class Blanker {
 public:
  explicit Blanker(std::string_view text) : out_(text) {}

  std::string run() {
    while (at_ < out_.size()) step();
    return std::move(out_);
  }

 private:
  void step() {
    if (starts("//")) return blank_until("\n", false);
    if (starts("/*")) return blank_until("*/", true);
    if (starts("R\"") && !inside_word()) return raw_string();
    if (out_[at_] == '"') return quoted('"');
    if (out_[at_] == '\'' && !inside_word()) return quoted('\'');  // in 1'000 it is a separator
    ++at_;
  }

  bool starts(std::string_view what) const { return std::string_view(out_).substr(at_, what.size()) == what; }
  bool inside_word() const { return at_ > 0 && is_word_character(out_[at_ - 1]); }

  void blank(size_t end) {
    for (; at_ < std::min(end, out_.size()); ++at_) {
      if (out_[at_] != '\n') out_[at_] = ' ';
    }
  }

  void blank_until(std::string_view stop, bool with_stop) {
    size_t found = out_.find(stop, at_ + 2);
    blank(found == std::string::npos ? out_.size() : found + (with_stop ? stop.size() : 0));
  }

  void quoted(char quote) {
    size_t end = at_ + 1;
    while (end < out_.size() && out_[end] != quote && out_[end] != '\n') end += out_[end] == '\\' ? 2 : 1;
    blank(end + 1);
  }

  void raw_string() {
    size_t open = out_.find('(', at_);
    if (open == std::string::npos) return blank(out_.size());
    std::string stop = ")" + out_.substr(at_ + 2, open - at_ - 2) + "\"";
    size_t found = out_.find(stop, open);
    blank(found == std::string::npos ? out_.size() : found + stop.size());
  }

  std::string out_;
  size_t at_ = 0;
};

std::vector<Include> find_includes(const std::vector<std::string>& lines) {
  static const std::regex kInclude("^\\s*#\\s*include\\s*\"([^\"]+)\"");
  std::vector<Include> found;
  for (size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (std::regex_search(lines[i], match, kInclude)) found.push_back({int(i) + 1, match[1]});
  }
  return found;
}

}  // namespace

std::string code_only(std::string_view text) { return Blanker(text).run(); }

Source::Source(std::string file_path, std::string file_text)
    : path(std::move(file_path)),
      text(std::move(file_text)),
      code(code_only(text)),
      lines(split_lines(text)),
      includes(find_includes(lines)) {}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

int line_of(std::string_view text, size_t offset) {
  std::string_view before = text.substr(0, offset);
  return int(std::count(before.begin(), before.end(), '\n')) + 1;
}

size_t width(std::string_view line) {
  return size_t(std::count_if(line.begin(), line.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

bool is_word_character(char character) {
  return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
         (character >= '0' && character <= '9') || character == '_';
}

size_t find_word(std::string_view text, std::string_view word, size_t from) {
  for (size_t at = text.find(word, from); at != std::string_view::npos; at = text.find(word, at + 1)) {
    size_t end = at + word.size();
    bool alone = (at == 0 || !is_word_character(text[at - 1])) && (end == text.size() || !is_word_character(text[end]));
    if (alone) return at;
  }
  return std::string_view::npos;
}

}  // namespace hylas::tidy
