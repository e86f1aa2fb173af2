#include "serve/prompts.h"

#include "base/json.h"

namespace hylas {
namespace {

constexpr const char* kForms = "a string, an array of strings, token ids, or an array of arrays of token ids";

Result<std::vector<int32_t>> parse_ids(const json::array& from, const std::string& field, int32_t vocab_size) {
  if (from.empty()) return error(ErrorCode::kInvalid, "`{}` is empty: at least one token is needed", field);
  std::vector<int32_t> ids;
  ids.reserve(from.size());
  for (const json::value& item : from) {
    if (!item.is_int64()) return json::wrong_kind(field, "an array of integers", item);
    if (item.as_int64() < 0 || item.as_int64() >= vocab_size) {
      return error(ErrorCode::kInvalid, "`{}` has the token id {}; ids are from 0 to {}", field, item.as_int64(),
                   vocab_size - 1);
    }
    ids.push_back(int32_t(item.as_int64()));
  }
  return ids;
}

Result<PromptInput> parse_one(const json::value& from, const std::string& field, int32_t vocab_size) {
  if (const auto* text = from.if_string()) {
    if (text->empty()) return error(ErrorCode::kInvalid, "`{}` is empty: at least one token is needed", field);
    return PromptInput(std::string(text->data(), text->size()));
  }
  if (!from.is_array()) return json::wrong_kind(field, kForms, from);
  HYLAS_ASSIGN(auto ids, parse_ids(from.as_array(), field, vocab_size));
  return PromptInput(std::move(ids));
}

}  // namespace

Result<PromptList> parse_prompts(const json::value& from, std::string_view field, int32_t vocab_size) {
  PromptList list;
  const json::array* items = from.if_array();
  list.is_list = items && !items->empty() && !items->front().is_number();
  if (!list.is_list) {
    HYLAS_ASSIGN(PromptInput one, parse_one(from, std::string(field), vocab_size));
    list.prompts.push_back(std::move(one));
    return list;
  }
  if (items->size() > kPromptsMax) {
    return error(ErrorCode::kInvalid, "`{}` has {} prompts; at most {} are allowed", field, items->size(), kPromptsMax);
  }
  for (size_t i = 0; i < items->size(); ++i) {
    HYLAS_ASSIGN(PromptInput one, parse_one((*items)[i], fmt::format("{}[{}]", field, i), vocab_size));
    list.prompts.push_back(std::move(one));
  }
  return list;
}

}  // namespace hylas
