#include "text/added_tokens.h"

#include <algorithm>

namespace hylas {

void AddedTokens::add(int32_t id, std::string content) {
  std::vector<Token>& tokens = by_first_byte_[static_cast<unsigned char>(content[0])];
  auto shorter = [&](const Token& token) { return token.content.size() < content.size(); };
  tokens.insert(std::find_if(tokens.begin(), tokens.end(), shorter), Token{content, id});
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, size_t from) const {
  for (size_t i = from; i < text.size(); ++i) {
    for (const Token& token : by_first_byte_[static_cast<unsigned char>(text[i])]) {
      if (text.substr(i).starts_with(token.content)) return Match{i, token.content.size(), token.id};
    }
  }
  return std::nullopt;
}

std::optional<int32_t> AddedTokens::id_of(std::string_view content) const {
  if (content.empty()) return std::nullopt;
  for (const Token& token : by_first_byte_[static_cast<unsigned char>(content[0])]) {
    if (token.content == content) return token.id;
  }
  return std::nullopt;
}

}  // namespace hylas
