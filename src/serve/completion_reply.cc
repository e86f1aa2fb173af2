#include "serve/completion_reply.h"

#include "base/clock.h"

namespace hylas {

using boost::json::array;
using boost::json::object;

CompletionReply::CompletionReply(ServeContext& context, std::shared_ptr<HttpReply> http, CompletionRequest request,
                                 std::vector<std::vector<int32_t>> prompt_ids)
    : Reply(context, std::move(http), request.stream.stream),
      request_(std::move(request)),
      prompt_ids_(std::move(prompt_ids)),
      logprobs_(request_.generation.sampling.top_logprobs >= 0),
      id_(request_.request_id.empty() ? new_id("cmpl-") : request_.request_id),
      created_s_(wall_clock_us() / 1'000'000),
      choices_(prompt_ids_.size() * size_t(request_.generation.n)) {}

void CompletionReply::on_piece(size_t index, Piece piece) {
  Choice& choice = choices_[index];
  std::string text;
  if (!choice.begun) {
    choice.begun = true;
    if (request_.echo) echo_prompt(index, piece, text);
  }
  if (logprobs_) {
    for (const OutputToken& token : piece.tokens) add_logprob(choice, token, true);
  }
  text += piece.text;
  if (piece.finish) choice.finish = *piece.finish;
  if (!stream_) {
    choice.text += text;
    return;
  }
  if (text.empty() && !piece.finish) return;
  object chunk = head();
  chunk["choices"] = array{choice_json(index, std::move(text), piece.finish ? &*piece.finish : nullptr)};
  if (request_.stream.continuous_usage_stats) chunk["usage"] = usage_json(usage());
  send_event(chunk);
}

void CompletionReply::echo_prompt(size_t index, const Piece& piece, std::string& text) {
  size_t prompt = index / size_t(request_.generation.n);
  const std::vector<int32_t>& ids = prompt_ids_[prompt];
  if (const auto* given = std::get_if<std::string>(&request_.prompts[prompt])) {
    text += *given;
  } else {
    text += context_.tokenizer.decode(ids, request_.generation.skip_special_tokens);
  }
  if (!logprobs_) return;
  add_logprob(choices_[index], {.id = ids[0]}, false);
  for (const OutputToken& token : piece.prompt_logprobs) add_logprob(choices_[index], token, true);
}

void CompletionReply::add_logprob(Choice& choice, const OutputToken& token, bool known) {
  std::string text = token_text(context_.tokenizer, token.id);
  choice.logprobs.text_offset.emplace_back(int64_t(choice.text_offset));
  choice.text_offset += text.size();
  choice.logprobs.tokens.emplace_back(std::move(text));
  if (!known) {
    choice.logprobs.token_logprobs.emplace_back(nullptr);
    choice.logprobs.top_logprobs.emplace_back(nullptr);
    return;
  }
  choice.logprobs.token_logprobs.emplace_back(json_logprob(token.logprob));
  object top;
  for (const TokenLogprob& one : token.top) {
    top.emplace(token_text(context_.tokenizer, one.token), json_logprob(one.logprob));
  }
  choice.logprobs.top_logprobs.emplace_back(std::move(top));
}

object CompletionReply::choice_json(size_t index, std::string text, const Finish* finish) {
  object entry{{"index", index}, {"text", std::move(text)}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  if (logprobs_) {
    Logprobs taken = std::exchange(choices_[index].logprobs, {});
    entry["logprobs"] = object{{"tokens", std::move(taken.tokens)},
                               {"token_logprobs", std::move(taken.token_logprobs)},
                               {"top_logprobs", std::move(taken.top_logprobs)},
                               {"text_offset", std::move(taken.text_offset)}};
  }
  if (finish) {
    entry["finish_reason"] = finish_reason_name(*finish);
    entry["matched_stop"] = matched_stop(*finish);
  }
  return entry;
}

object CompletionReply::head() const {
  return answer_head(id_, "text_completion", created_s_, context_.options.model_name);
}

Usage CompletionReply::usage() const {
  Usage usage;
  for (size_t i = 0; i < sequences(); ++i) {
    usage.completion_tokens += sequence(i).generated_tokens;
    if (i % size_t(request_.generation.n) != 0) continue;  // copies share their prompt
    usage.prompt_tokens += sequence(i).prompt_tokens;
    usage.cached_tokens += sequence(i).cached_tokens;
  }
  return usage;
}

void CompletionReply::on_end() {
  object answer = head();
  if (stream_) {
    if (request_.stream.include_usage) {
      answer["choices"] = array();
      answer["usage"] = usage_json(usage());
      send_event(answer);
    }
    return end_stream();
  }
  array choices;
  for (size_t i = 0; i < sequences(); ++i) {
    choices.emplace_back(choice_json(i, std::move(choices_[i].text), &choices_[i].finish));
  }
  answer["choices"] = std::move(choices);
  answer["usage"] = usage_json(usage());
  send_json(answer);
}

}  // namespace hylas
