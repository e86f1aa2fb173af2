#include "tidy/functions.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tidy/source.h"

namespace hylas::tidy {
namespace {

enum class Block { kContainer, kFunction, kOther };

// A template<...> at the head's start would put its own `class` before the judge's eyes.
std::string_view without_template(std::string_view head) {
  while (head.substr(0, 8) == "template") {
    size_t at = head.find('<');
    if (at == std::string_view::npos) break;
    int depth = 0;
    do {
      depth += head[at] == '<' ? 1 : head[at] == '>' ? -1 : 0;
      ++at;
    } while (depth > 0 && at < head.size());
    head.remove_prefix(std::min(head.find_first_not_of(" \n", at), head.size()));
  }
  return head;
}

// What a brace opens, from the text between the last end of a statement and it.
Block judge(std::string_view head) {
  head = without_template(head);
  std::string_view before_parameters = head.substr(0, head.find('('));
  for (const char* word : {"namespace", "class", "struct", "union", "enum"}) {
    if (find_word(before_parameters, word) != std::string_view::npos) return Block::kContainer;
  }
  if (before_parameters.find("extern") != std::string_view::npos && head.find('(') == std::string_view::npos) {
    return Block::kContainer;
  }
  bool assigned = !head.empty() && head.back() == '=';
  return head.find('(') != std::string_view::npos && !assigned ? Block::kFunction : Block::kOther;
}

std::string without_preprocessor(std::string_view code) {
  std::string out(code);
  bool directive = false;
  for (size_t start = 0; start < out.size();) {
    size_t end = std::min(out.find('\n', start), out.size());
    std::string_view line = std::string_view(out).substr(start, end - start);
    size_t first = line.find_first_not_of(' ');
    directive = directive || (first != std::string_view::npos && line[first] == '#');
    bool continues = directive && !line.empty() && line.back() == '\\';
    if (directive) out.replace(start, end - start, end - start, ' ');
    directive = continues;
    start = end + 1;
  }
  return out;
}

class Finder {
 public:
  explicit Finder(std::string_view code) : code_(without_preprocessor(code)) {}

  std::vector<Function> run() {
    for (at_ = 0; at_ < code_.size(); ++at_) step(code_[at_]);
    return std::move(found_);
  }

 private:
  void step(char character) {
    if (inside_ > 0) {  // of a function or an initializer: only its end matters
      inside_ += character == '{' ? 1 : character == '}' ? -1 : 0;
      if (inside_ == 0) close();
    } else if (character == '{') {
      open();
    } else if (character == '}' || character == ';' || (character == ':' && after_access_specifier())) {
      head_ = at_ + 1;
    }
  }

  void open() {
    size_t first = std::min(code_.find_first_not_of(" \n", head_), at_);
    std::string_view head = std::string_view(code_).substr(first, at_ - first);
    // `member_{2}` in a constructor's list: the format puts a space before every other brace that matters here.
    bool member = !head.empty() && (is_word_character(head.back()) || head.back() == '>');
    head = head.substr(0, head.find_last_not_of(" \n") + 1);
    kind_ = member ? Block::kOther : judge(head);
    if (kind_ == Block::kContainer) {
      head_ = at_ + 1;
      return;
    }
    first_line_ = line_of(code_, first);
    inside_ = 1;
  }

  void close() {
    if (kind_ != Block::kFunction) return;  // the head goes on: `= {1, 2};`, `member_{2} {`
    found_.push_back({first_line_, line_of(code_, at_)});
    head_ = at_ + 1;
  }

  bool after_access_specifier() const {
    std::string_view head = std::string_view(code_).substr(head_, at_ - head_);
    size_t first = head.find_first_not_of(" \n");
    if (first == std::string_view::npos) return false;
    head.remove_prefix(first);
    return head == "public" || head == "private" || head == "protected";
  }

  std::string code_;
  size_t at_ = 0;
  size_t head_ = 0;  // where the text that leads to the next brace starts
  int inside_ = 0;   // open braces of the block that is being skipped
  Block kind_ = Block::kOther;
  int first_line_ = 0;
  std::vector<Function> found_;
};

}  // namespace

std::vector<Function> find_functions(std::string_view code) { return Finder(code).run(); }

}  // namespace hylas::tidy
