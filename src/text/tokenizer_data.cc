#include <charconv>

#include "base/json.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_data.h"

namespace hylas {
namespace {

constexpr std::string_view kFile = "tokenizer.json";
constexpr std::string_view kConfigFile = "tokenizer_config.json";

std::string shortened(std::string_view text) {
  return text.size() <= 200 ? std::string(text) : std::string(text.substr(0, 200)) + "...";
}

// The field's JSON is `wanted` or it is absent or null.
Status expect_absent_or(const json::object& from, std::string_view key, const json::value& wanted,
                        std::string_view path) {
  const json::value* found = from.if_contains(key);
  if (!found || found->is_null() || *found == wanted) return {};
  return error(ErrorCode::kUnsupported, "{}: {} is {}; this tokenizer family has {}", kFile,
               json::field_path(path, key), shortened(serialize(*found)), serialize(wanted));
}

Status expect_type(const json::object& from, std::string_view type, std::string_view path) {
  HYLAS_ASSIGN(std::string_view found, json::require_string(from, "type", path));
  if (found == type) return {};
  return error(ErrorCode::kUnsupported, "{}: {} has type '{}'; this tokenizer family has '{}'", kFile, path,
               shortened(found), type);
}

// Normalizer NFC, pre-tokenizer [split by the known expression, bytes], decoder and post-processor ByteLevel or none.
Result<SplitRule> parse_pipeline(const json::object& root) {
  HYLAS_ASSIGN(const json::object* normalizer, json::require_object(root, "normalizer"));
  HYLAS_TRY(expect_type(*normalizer, "NFC", "normalizer"));
  HYLAS_ASSIGN(const json::object* decoder, json::require_object(root, "decoder"));
  HYLAS_TRY(expect_type(*decoder, "ByteLevel", "decoder"));
  HYLAS_ASSIGN(const json::object* post, json::optional_object(root, "post_processor"));
  if (post) HYLAS_TRY(expect_type(*post, "ByteLevel", "post_processor"));

  HYLAS_ASSIGN(const json::object* pre, json::require_object(root, "pre_tokenizer"));
  HYLAS_TRY(expect_type(*pre, "Sequence", "pre_tokenizer"));
  HYLAS_ASSIGN(const json::array* steps, json::require_array(*pre, "pretokenizers", "pre_tokenizer"));
  if (steps->size() != 2 || !(*steps)[0].is_object() || !(*steps)[1].is_object()) {
    return error(ErrorCode::kUnsupported, "{}: pre_tokenizer.pretokenizers must be [Split, ByteLevel]", kFile);
  }
  const json::object& split = (*steps)[0].get_object();
  const std::string split_path = "pre_tokenizer.pretokenizers[0]";
  HYLAS_TRY(expect_type(split, "Split", split_path));
  HYLAS_TRY(expect_absent_or(split, "behavior", "Isolated", split_path));
  HYLAS_TRY(expect_absent_or(split, "invert", false, split_path));
  HYLAS_ASSIGN(const json::object* pattern, json::require_object(split, "pattern", split_path));
  HYLAS_ASSIGN(std::string_view regex, json::require_string(*pattern, "Regex", split_path + ".pattern"));
  const json::object& bytes = (*steps)[1].get_object();
  const std::string bytes_path = "pre_tokenizer.pretokenizers[1]";
  HYLAS_TRY(expect_type(bytes, "ByteLevel", bytes_path));
  HYLAS_TRY(expect_absent_or(bytes, "add_prefix_space", false, bytes_path));
  HYLAS_TRY(expect_absent_or(bytes, "use_regex", false, bytes_path));
  std::optional<SplitRule> rule = split_rule_of_regex(regex);
  if (rule) return *rule;
  return error(ErrorCode::kUnsupported,
               "{}: the pre-tokenizer's expression is neither Qwen3.5's nor Qwen2's, the two that are supported: {}",
               kFile, shortened(regex));
}

Status parse_vocabulary(const json::object& model, TokenTable& tokens) {
  HYLAS_ASSIGN(const json::object* vocabulary, json::require_object(model, "vocab", "model"));
  for (const auto& [spelled, id] : *vocabulary) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= TokenTable::kIdsMax) {
      return error(ErrorCode::kInvalid, "{}: the id of '{}' is {}, not in 0..{}", kFile, shortened(spelled),
                   shortened(serialize(id)), TokenTable::kIdsMax - 1);
    }
    std::optional<std::string> bytes = bytes_of_alphabet(spelled);
    if (!bytes || bytes->empty()) {
      return error(ErrorCode::kInvalid, "{}: token '{}' is not spelled in the byte alphabet", kFile,
                   shortened(spelled));
    }
    if (!tokens.set(static_cast<int32_t>(id.get_int64()), *bytes)) {
      return error(ErrorCode::kInvalid, "{}: '{}' has the id {} of another token", kFile, shortened(spelled),
                   id.get_int64());
    }
  }
  return {};
}

// A merge is ["a", "b"] or, in older files, "a b".
bool split_merge(const json::value& merge, std::string_view& left, std::string_view& right) {
  if (const json::array* pair = merge.if_array()) {
    if (pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string()) return false;
    left = (*pair)[0].get_string(), right = (*pair)[1].get_string();
    return true;
  }
  if (!merge.is_string()) return false;
  std::string_view text = merge.get_string();
  size_t space = text.find(' ');
  if (space == std::string_view::npos) return false;
  left = text.substr(0, space), right = text.substr(space + 1);
  return true;
}

Result<std::vector<Bpe::Merge>> parse_merges(const json::object& model, const TokenTable& tokens) {
  HYLAS_ASSIGN(const json::array* merges, json::require_array(model, "merges", "model"));
  if (static_cast<int64_t>(merges->size()) > Bpe::kMergesMax) {
    return error(ErrorCode::kUnsupported, "{}: {} merges are more than {}", kFile, merges->size(), Bpe::kMergesMax);
  }
  std::vector<Bpe::Merge> parsed;
  parsed.reserve(merges->size());
  for (const json::value& merge : *merges) {
    std::string_view left_spelled, right_spelled;
    std::optional<std::string> left, right;
    if (split_merge(merge, left_spelled, right_spelled)) {
      left = bytes_of_alphabet(left_spelled), right = bytes_of_alphabet(right_spelled);
    }
    if (!left || !right) {
      return error(ErrorCode::kInvalid, "{}: model.merges[{}] is {}, not a pair of tokens", kFile, parsed.size(),
                   shortened(serialize(merge)));
    }
    auto left_id = tokens.find(*left), right_id = tokens.find(*right), merged_id = tokens.find(*left + *right);
    if (!left_id || !right_id || !merged_id) {
      return error(ErrorCode::kInvalid, "{}: model.merges[{}] {} names a token that the vocabulary lacks", kFile,
                   parsed.size(), shortened(serialize(merge)));
    }
    parsed.push_back({*left_id, *right_id, *merged_id});
  }
  return parsed;
}

Status parse_model(const json::object& root, TokenizerData& data) {
  HYLAS_ASSIGN(const json::object* model, json::require_object(root, "model"));
  HYLAS_TRY(expect_type(*model, "BPE", "model"));
  HYLAS_TRY(expect_absent_or(*model, "dropout", nullptr, "model"));
  HYLAS_TRY(expect_absent_or(*model, "continuing_subword_prefix", "", "model"));
  HYLAS_TRY(expect_absent_or(*model, "end_of_word_suffix", "", "model"));
  HYLAS_TRY(expect_absent_or(*model, "byte_fallback", false, "model"));
  HYLAS_TRY(expect_absent_or(*model, "ignore_merges", false, "model"));
  HYLAS_TRY(parse_vocabulary(*model, data.tokens));
  std::array<int32_t, 256> byte_ids;
  for (int byte = 0; byte < 256; ++byte) {
    char single = static_cast<char>(byte);
    std::optional<int32_t> id = data.tokens.find({&single, 1});
    if (!id) return error(ErrorCode::kInvalid, "{}: the vocabulary has no token for the byte {}", kFile, byte);
    byte_ids[byte] = *id;
  }
  HYLAS_ASSIGN(std::vector<Bpe::Merge> merges, parse_merges(*model, data.tokens));
  data.bpe = std::make_unique<const Bpe>(byte_ids, merges);
  return {};
}

// One added token; `where` names it in errors.
Status add_token(int64_t id, const json::object& token, const std::string& where, TokenizerData& data) {
  HYLAS_ASSIGN(std::string_view content, json::require_string(token, "content", where));
  if (id < 0 || id >= TokenTable::kIdsMax || content.empty()) {
    return error(ErrorCode::kInvalid, "{}: content '{}' with id {} is no usable token", where, shortened(content), id);
  }
  for (const char* flag : {"lstrip", "rstrip", "single_word", "normalized"}) {
    HYLAS_ASSIGN(std::optional<bool> set, json::optional_bool(token, flag, where));
    if (set.value_or(false)) {
      return error(ErrorCode::kUnsupported, "{}: '{}' has {} = true, which this tokenizer family never has", where,
                   shortened(content), flag);
    }
  }
  HYLAS_ASSIGN(std::optional<bool> special, json::optional_bool(token, "special", where));
  if (!data.tokens.set(static_cast<int32_t>(id), content)) {
    return error(ErrorCode::kInvalid, "{}: '{}' has the id {} of another token", where, shortened(content), id);
  }
  data.is_added.resize(data.tokens.size());
  data.is_special.resize(data.tokens.size());
  data.is_added[id] = true;
  data.is_special[id] = special.value_or(false);
  data.added.add(static_cast<int32_t>(id), std::string(content));
  return {};
}

Status parse_added_tokens(const json::object& root, TokenizerData& data) {
  data.is_added.resize(data.tokens.size());
  data.is_special.resize(data.tokens.size());
  HYLAS_ASSIGN(const json::array* added, json::optional_array(root, "added_tokens"));
  if (!added) return {};
  for (size_t i = 0; i < added->size(); ++i) {
    const std::string where = fmt::format("{}: added_tokens[{}]", kFile, i);
    const json::object* token = (*added)[i].if_object();
    if (!token) return json::wrong_kind(where, "an object", (*added)[i]);
    HYLAS_ASSIGN(int64_t id, json::require_int(*token, "id", where));
    HYLAS_TRY(add_token(id, *token, where, data));
  }
  return {};
}

// Some released tokenizer.json files lack the last added tokens; tokenizer_config.json has them all.
Status parse_config(std::string_view config_text, TokenizerData& data) {
  if (config_text.empty()) return {};
  HYLAS_ASSIGN(json::object config, json::parse_object(config_text, kConfigFile));
  HYLAS_ASSIGN(const json::object* added, json::optional_object(config, "added_tokens_decoder"));
  if (!added) return {};
  for (const auto& [key, value] : *added) {
    const std::string where = fmt::format("{}: added_tokens_decoder.{}", kConfigFile, shortened(key));
    const json::object* token = value.if_object();
    if (!token) return json::wrong_kind(where, "an object", value);
    int64_t id = -1;
    auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (code != std::errc() || end != key.data() + key.size()) {
      return error(ErrorCode::kInvalid, "{} is not named by a token id", where);
    }
    HYLAS_ASSIGN(std::string_view content, json::require_string(*token, "content", where));
    if (!data.added.id_of(content)) HYLAS_TRY(add_token(id, *token, where, data));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<const TokenizerData>> parse_tokenizer_files(std::string_view tokenizer_json,
                                                                   std::string_view tokenizer_config_json) {
  auto data = std::make_unique<TokenizerData>();
  HYLAS_ASSIGN(json::object root, json::parse_object(tokenizer_json, kFile));
  HYLAS_ASSIGN(data->split_rule, parse_pipeline(root));
  HYLAS_TRY(parse_model(root, *data));
  HYLAS_TRY(parse_added_tokens(root, *data));
  HYLAS_TRY(parse_config(tokenizer_config_json, *data));
  return std::unique_ptr<const TokenizerData>(std::move(data));
}

}  // namespace hylas
