#pragma once
// What a tokenizer consists of once its files are read.
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/token_table.h"

namespace hylas {

struct TokenizerData {
  TokenTable tokens;
  AddedTokens added;
  std::vector<bool> is_added, is_special;  // by id, tokens.size() entries
  std::unique_ptr<const Bpe> bpe;
  SplitRule split_rule = SplitRule::kQwen35;
};

// From the contents of tokenizer.json and tokenizer_config.json (may be empty). Errors as Tokenizer::load.
Result<std::unique_ptr<const TokenizerData>> parse_tokenizer_files(std::string_view tokenizer_json,
                                                                   std::string_view tokenizer_config_json);

}  // namespace hylas
