#pragma once
// From the engine's outputs of one sequence to the text that a client may see.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "serve/generation_request.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"

namespace hylas {

struct Finish {
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> stop_token;  // kStop: one of these two
  std::optional<std::string> stop_string;
  std::string error;       // kError
  bool may_retry = false;  // kError: elsewhere
};

// What one Output added.
struct Piece {
  std::string text;
  std::vector<OutputToken> tokens;           // the stop token included
  std::vector<OutputToken> prompt_logprobs;  // as in Output
  int32_t cached_tokens = 0;
  std::optional<Finish> finish;  // nothing follows
};

// One per output sequence; not thread-safe. The tokenizer must outlive it.
class OutputText {
 public:
  OutputText(const Tokenizer& tokenizer, const GenerationRequest& request);

  // After a finish every output gives an empty piece. If a stop string ended the text, stopped_early() is true from
  // then on: the engine does not know of it and must be told to stop.
  Piece push(Output output);
  bool stopped_early() const { return stops_.matched(); }

 private:
  void push_token(const Output& output, size_t i, Piece& piece);

  Detokenizer detokenizer_;
  StopMatcher stops_;
  bool include_stop_;
  bool finished_ = false;
};

}  // namespace hylas
