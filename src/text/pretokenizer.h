#pragma once
// The family's pre-tokenizer: splits text into the pieces within which BPE merges.
#include <optional>
#include <string_view>

namespace hylas {

enum class SplitRule {
  kQwen35,  // marks belong to words: [\p{L}\p{M}]+
  kQwen2,   // marks are symbols: \p{L}+
};

// The rule of a tokenizer.json's split expression; nullopt for any expression but the two known ones.
std::optional<SplitRule> split_rule_of_regex(std::string_view regex);

// The end of the piece that begins at `begin` (< end). The same pieces as the regular expression's matches, which cover
// every text without gaps. A byte that is not UTF-8 counts as a symbol. Thread-safe.
const char* piece_end(const char* begin, const char* end, SplitRule rule);

}  // namespace hylas
