#pragma once
// Added tokens: strings such as <|im_end|> that are cut out of the text before it is split into pieces.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hylas {

// Filled once, then read from any thread.
class AddedTokens {
 public:
  struct Match {
    size_t begin, length;
    int32_t id;
  };
  void add(int32_t id, std::string content);
  // The leftmost added token at or after `from`; the longest of several that begin there.
  std::optional<Match> find(std::string_view text, size_t from) const;
  std::optional<int32_t> id_of(std::string_view content) const;

 private:
  struct Token {
    std::string content;
    int32_t id;
  };
  std::array<std::vector<Token>, 256> by_first_byte_;  // longest first
};

}  // namespace hylas
