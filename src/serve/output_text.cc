#include "serve/output_text.h"

namespace hylas {

OutputText::OutputText(const Tokenizer& tokenizer, const GenerationRequest& request)
    : detokenizer_(tokenizer, request.skip_special_tokens),
      stops_(request.stop, request.include_stop),
      include_stop_(request.include_stop) {}

Piece OutputText::push(Output output) {
  Piece piece;
  if (finished_) return piece;
  piece.prompt_logprobs = std::move(output.prompt_logprobs);
  piece.cached_tokens = output.cached_tokens;
  for (size_t i = 0; i < output.tokens.size() && !stops_.matched(); ++i) push_token(output, i, piece);
  if (stops_.matched()) {
    piece.finish = Finish{.reason = FinishReason::kStop, .stop_string = stops_.matched_stop()};
  } else if (output.finish) {
    piece.text += stops_.push(detokenizer_.finish());
    bool by_string = stops_.matched();  // the stop string ends with the last, incomplete character
    if (!by_string) piece.text += stops_.finish();
    piece.finish = Finish{.reason = *output.finish, .error = std::move(output.error), .may_retry = output.may_retry};
    if (by_string) piece.finish = Finish{.reason = FinishReason::kStop, .stop_string = stops_.matched_stop()};
    if (!by_string && *output.finish == FinishReason::kStop) piece.finish->stop_token = output.stop_token;
  }
  finished_ = piece.finish.has_value();
  return piece;
}

void OutputText::push_token(const Output& output, size_t i, Piece& piece) {
  const OutputToken& token = output.tokens[i];
  bool last = i + 1 == output.tokens.size();
  bool is_stop = last && output.finish == FinishReason::kStop && token.id == output.stop_token;
  if (!is_stop || include_stop_) piece.text += stops_.push(detokenizer_.push(token.id));
  piece.tokens.push_back(token);
}

}  // namespace hylas
