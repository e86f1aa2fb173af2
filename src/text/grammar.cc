#include "text/grammar.h"

#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "base/json.h"
#include "text/tool_call_format.h"

namespace hylas {
namespace {

constexpr size_t kSourceBytesMax = size_t{256} << 10;
constexpr int64_t kCacheBytesMax = int64_t{256} << 20;
constexpr int kThreadsMax = 4;
// Of white space between two parts of a JSON text: a line break and the indentation of seven levels. Unlimited, a model
// that has lost its way pads for ever.
constexpr int kSpacesMax = 16;
constexpr int kRecursionMax = 1000;  // of xgrammar's parsers: what a thread's stack holds

// What every row of the logits stands for. Special tokens have no text that a grammar could ask for; stop tokens get
// their meaning from the list of stop ids.
std::vector<std::string> vocabulary_rows(const Tokenizer& tokenizer, int32_t rows) {
  std::vector<std::string> vocabulary(rows);
  for (int32_t id = 0; id < std::min(rows, tokenizer.vocab_size()); ++id) {
    if (!tokenizer.is_special(id)) vocabulary[id] = tokenizer.token_bytes(id);
  }
  return vocabulary;
}

// Bits of the rows that have a token.
std::vector<uint32_t> token_rows(const Tokenizer& tokenizer, int32_t rows) {
  std::vector<uint32_t> mask((rows + 31) / 32);
  for (int32_t id = 0; id < std::min(rows, tokenizer.vocab_size()); ++id) {
    if (!tokenizer.token_bytes(id).empty()) mask[id / 32] |= uint32_t{1} << id % 32;
  }
  return mask;
}

// Bits of the rows that JSON may contain: a control character but the line break stands nowhere in it that matters, and
// xgrammar lets some into strings.
std::vector<uint32_t> json_rows(const Tokenizer& tokenizer, int32_t rows) {
  std::vector<uint32_t> mask = token_rows(tokenizer, rows);
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n'; };
  for (int32_t id = 0; id < std::min(rows, tokenizer.vocab_size()); ++id) {
    if (std::ranges::any_of(tokenizer.token_bytes(id), is_control)) mask[id / 32] &= ~(uint32_t{1} << id % 32);
  }
  return mask;
}

bool has_bit(const std::vector<uint32_t>& mask, int32_t id) {
  return id >= 0 && static_cast<size_t>(id / 32) < mask.size() && (mask[id / 32] >> id % 32 & 1);
}

// The reason in one line, without the time and place that xgrammar writes before it: "[12:00:00] a/b.cc:12: reason".
std::string reason_of(std::string_view text) {
  size_t place = text.starts_with('[') ? text.find(".cc:") : std::string_view::npos;
  size_t colon = place == std::string_view::npos ? place : text.find(": ", place);
  if (colon != std::string_view::npos) text.remove_prefix(colon + 2);
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace

class CompiledGrammar {
 public:
  xgrammar::CompiledGrammar grammar;
  std::shared_ptr<const std::vector<uint32_t>> token_rows;
  std::shared_ptr<const std::vector<uint32_t>> allowed_rows;  // of the grammar's tokens; null: all
};

struct GrammarCompiler::State {
  State(const Tokenizer& tokenizer, int32_t vocab_rows, std::span<const int32_t> stop_ids)
      : token_rows(std::make_shared<const std::vector<uint32_t>>(hylas::token_rows(tokenizer, vocab_rows))),
        json_rows(std::make_shared<const std::vector<uint32_t>>(hylas::json_rows(tokenizer, vocab_rows))),
        compiler(xgrammar::TokenizerInfo(vocabulary_rows(tokenizer, vocab_rows), xgrammar::VocabType::RAW, vocab_rows,
                                         std::vector<int32_t>(stop_ids.begin(), stop_ids.end())),
                 std::clamp<int>(static_cast<int>(std::thread::hardware_concurrency()), 1, kThreadsMax), true,
                 kCacheBytesMax) {}

  // xgrammar reports errors of the source as exceptions.
  template <class F>
  Compiled compile(const char* what, size_t source_bytes, const F& compile_source,
                   std::shared_ptr<const std::vector<uint32_t>> allowed_rows = nullptr) {
    if (source_bytes > kSourceBytesMax) {
      return error(ErrorCode::kInvalid, "{} is {} bytes long, more than {}", what, source_bytes, kSourceBytesMax);
    }
    try {
      return std::make_shared<const CompiledGrammar>(CompiledGrammar{compile_source(), token_rows, allowed_rows});
    } catch (const std::exception& failure) {
      return error(ErrorCode::kInvalid, "{} cannot be used: {}", what, reason_of(failure.what()));
    }
  }

  xgrammar::CompiledGrammar compile_schema(const std::string& schema, bool strict) {
    return compiler.CompileJSONSchema(schema, true, std::nullopt, std::nullopt, strict, kSpacesMax);
  }

  std::shared_ptr<const std::vector<uint32_t>> token_rows;
  std::shared_ptr<const std::vector<uint32_t>> json_rows;
  xgrammar::GrammarCompiler compiler;
};

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, int32_t vocab_rows, std::span<const int32_t> stop_ids)
    : state_(std::make_unique<State>(tokenizer, vocab_rows, stop_ids)) {
  xgrammar::SetMaxRecursionDepth(kRecursionMax);
}
GrammarCompiler::~GrammarCompiler() = default;

GrammarCompiler::Compiled GrammarCompiler::json_schema(std::string_view schema) {
  Result<json::value> parsed = json::parse(schema);
  if (!parsed) return error(ErrorCode::kInvalid, "the JSON schema is no JSON: {}", parsed.error().message);
  return state_->compile("the JSON schema", schema.size(),
                         [&] { return state_->compile_schema(std::string(schema), true); }, state_->json_rows);
}

GrammarCompiler::Compiled GrammarCompiler::json_object() {
  const auto any_object = [&] { return state_->compile_schema(R"({"type": "object"})", false); };
  return state_->compile("the JSON grammar", 0, any_object, state_->json_rows);
}

GrammarCompiler::Compiled GrammarCompiler::regex(std::string_view pattern) {
  return state_->compile("the regular expression", pattern.size(),
                         [&] { return state_->compiler.CompileRegex(std::string(pattern)); });
}

GrammarCompiler::Compiled GrammarCompiler::ebnf(std::string_view grammar) {
  return state_->compile("the EBNF grammar", grammar.size(),
                         [&] { return state_->compiler.CompileGrammar(std::string(grammar)); });
}

GrammarCompiler::Compiled GrammarCompiler::tool_calls(const boost::json::array& tools, std::string_view only_function,
                                                      bool parallel) {
  json::object format = tool_call_format(tools, only_function, parallel);
  if (format["tags"].get_array().empty()) {
    if (only_function.empty()) return error(ErrorCode::kInvalid, "a tool call is required, but there are no tools");
    return error(ErrorCode::kInvalid, "tool_choice names '{}', which is not among the tools", only_function);
  }
  std::string tag = serialize(json::object{{"type", "structural_tag"}, {"format", std::move(format)}});
  return state_->compile("a tool's schema", tag.size(), [&] { return state_->compiler.CompileStructuralTag(tag); });
}

struct GrammarMatcher::State {
  State(std::shared_ptr<const CompiledGrammar> compiled, std::optional<int32_t> after)
      : grammar(std::move(compiled)), matcher(grammar->grammar), starts_after(after), started(!after) {}

  std::shared_ptr<const CompiledGrammar> grammar;
  xgrammar::GrammarMatcher matcher;
  std::optional<int32_t> starts_after;
  bool started;     // starts_after was seen, or there is none
  int before = 0;   // accepted tokens up to and including starts_after
  int matched = 0;  // accepted tokens of the grammar
};

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar, std::optional<int32_t> starts_after)
    : state_(std::make_unique<State>(std::move(grammar), starts_after)) {}
GrammarMatcher::~GrammarMatcher() = default;
GrammarMatcher::GrammarMatcher(GrammarMatcher&&) noexcept = default;

bool GrammarMatcher::accept(int32_t id) {
  if (!has_bit(*state_->grammar->token_rows, id)) return false;
  if (!state_->started) {
    ++state_->before;
    state_->started = id == *state_->starts_after;
    return true;
  }
  if (terminated()) return false;
  if (state_->grammar->allowed_rows && !has_bit(*state_->grammar->allowed_rows, id)) return false;
  if (!state_->matcher.AcceptToken(id)) return false;
  ++state_->matched;
  return true;
}

void GrammarMatcher::fill_mask(std::span<uint32_t> bitmask) {
  const std::vector<uint32_t>& rows = *state_->grammar->token_rows;
  HYLAS_CHECK(bitmask.size() == rows.size(), "{} words for {}", bitmask.size(), rows.size());
  if (!state_->started) {
    std::copy(rows.begin(), rows.end(), bitmask.begin());
    return;
  }
  if (terminated()) {
    std::fill(bitmask.begin(), bitmask.end(), 0);
    return;
  }
  int64_t words = static_cast<int64_t>(bitmask.size());
  DLTensor tensor{};
  tensor.data = bitmask.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = xgrammar::GetBitmaskDLType();
  tensor.shape = &words;
  state_->matcher.FillNextTokenBitmask(&tensor);
  if (!state_->grammar->allowed_rows) return;
  for (size_t i = 0; i < bitmask.size(); ++i) bitmask[i] &= (*state_->grammar->allowed_rows)[i];
}

bool GrammarMatcher::terminated() const { return state_->matcher.IsTerminated(); }

void GrammarMatcher::rollback(int n) {
  HYLAS_CHECK(n >= 0 && n <= state_->before + state_->matched, "{} of {}", n, state_->before + state_->matched);
  int of_grammar = std::min(n, state_->matched);
  if (of_grammar > 0) state_->matcher.Rollback(of_grammar);
  state_->matched -= of_grammar;
  state_->before -= n - of_grammar;
  if (n > of_grammar) state_->started = false;
}

}  // namespace hylas
