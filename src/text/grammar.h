#pragma once
// Structured output: grammars compiled against the vocabulary, and token masks for the sampler.
#include <boost/json.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace hylas {

// A grammar ready for matching. Immutable, shared between requests.
class CompiledGrammar;

// Compiles and caches grammars for one vocabulary. Thread-safe; equal requests share one result, and the cache is
// bounded. Compiling may take tens of milliseconds: call it from a text worker, never from the scheduler.
class GrammarCompiler {
 public:
  // vocab_rows: rows of the model's logits (rows without a token are never allowed). stop_ids: ids that end the output;
  // a mask allows them exactly where the grammar may end.
  GrammarCompiler(const Tokenizer& tokenizer, int32_t vocab_rows, std::span<const int32_t> stop_ids);
  ~GrammarCompiler();

  // Every error is kInvalid and carries the reason.
  using Compiled = Result<std::shared_ptr<const CompiledGrammar>>;
  Compiled json_schema(std::string_view schema);
  Compiled json_object();
  Compiled regex(std::string_view pattern);
  Compiled ebnf(std::string_view grammar);  // GBNF notation, the start rule is `root`
  // Output that is one or more tool calls in the qwen3_coder form and nothing else. only_function empty: any function
  // of `tools` (tool_choice "required"); else calls of that one (a named tool_choice). parallel: more than one call.
  Compiled tool_calls(const boost::json::array& tools, std::string_view only_function, bool parallel);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The position of one output sequence in a grammar; not thread-safe.
class GrammarMatcher {
 public:
  // starts_after: everything is allowed up to and including this token (</think>), the grammar begins behind it.
  explicit GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar,
                          std::optional<int32_t> starts_after = std::nullopt);
  ~GrammarMatcher();
  GrammarMatcher(GrammarMatcher&&) noexcept;

  // Advances by one sampled token. False, and no change, if the grammar does not allow it.
  bool accept(int32_t id);
  // Bit id % 32 of word id / 32 is 1 if the token is allowed next; ceil(vocab_rows / 32) words.
  void fill_mask(std::span<uint32_t> bitmask);
  // True after a stop token was accepted: nothing may follow.
  bool terminated() const;
  // Takes back the last n accepted tokens (rejected drafts); n at most the number accepted.
  void rollback(int n);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hylas
