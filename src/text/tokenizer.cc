#include "text/tokenizer.h"

#include "base/text_file.h"
#include "text/tokenizer_data.h"
#include "text/unicode.h"

namespace hylas {
namespace {

void encode_plain(const TokenizerData& data, std::string_view text, std::vector<int32_t>& ids) {
  std::string normalized;
  if (may_change_in_nfc(text)) text = normalized = to_nfc(text);
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const char* next = piece_end(p, end, data.split_rule);
    data.bpe->encode({p, static_cast<size_t>(next - p)}, ids);
    p = next;
  }
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerData> data) : data_(std::move(data)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string& model_dir) {
  HYLAS_ASSIGN(std::string tokenizer_json, read_text_file(model_dir + "/tokenizer.json"));
  Result<std::string> config = read_text_file(model_dir + "/tokenizer_config.json");
  if (!config && config.error().code != ErrorCode::kNotFound) return config.error();
  Result<std::unique_ptr<Tokenizer>> tokenizer = parse(tokenizer_json, config ? *config : std::string());
  if (tokenizer) return tokenizer;
  return error(tokenizer.error().code, "{}: {}", model_dir, tokenizer.error().message);
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::parse(std::string_view tokenizer_json,
                                                    std::string_view tokenizer_config_json) {
  HYLAS_ASSIGN(std::unique_ptr<const TokenizerData> data, parse_tokenizer_files(tokenizer_json, tokenizer_config_json));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(data)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view utf8, bool parse_added_tokens) const {
  std::vector<int32_t> ids;
  ids.reserve(utf8.size() / 3 + 1);
  size_t begin = 0;
  while (parse_added_tokens) {
    std::optional<AddedTokens::Match> match = data_->added.find(utf8, begin);
    if (!match) break;
    encode_plain(*data_, utf8.substr(begin, match->begin - begin), ids);
    ids.push_back(match->id);
    begin = match->begin + match->length;
  }
  encode_plain(*data_, utf8.substr(begin), ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (int32_t id : ids) {
    if (!skip_special_tokens || !is_special(id)) bytes.append(token_bytes(id));
  }
  return is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return data_->tokens.bytes(id); }

bool Tokenizer::is_special(int32_t id) const { return id >= 0 && id < vocab_size() && data_->is_special[id]; }

bool Tokenizer::is_added(int32_t id) const { return id >= 0 && id < vocab_size() && data_->is_added[id]; }

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  if (std::optional<int32_t> id = data_->added.id_of(token)) return id;
  return data_->tokens.find(token);
}

int32_t Tokenizer::vocab_size() const { return data_->tokens.size(); }

}  // namespace hylas
