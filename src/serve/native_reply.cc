#include "serve/native_reply.h"

#include "serve/openai_json.h"

namespace hylas {

using boost::json::array;
using boost::json::object;
using boost::json::value;

namespace {

// {type: "stop", matched: ...}, {type: "length", length: n} or {type: "abort", message}.
value finish_json(const Finish& finish, int32_t generated_tokens) {
  switch (finish.reason) {
    case FinishReason::kStop:
      return object{{"type", "stop"}, {"matched", matched_stop(finish)}};
    case FinishReason::kLength:
      return object{{"type", "length"}, {"length", generated_tokens}};
    case FinishReason::kAbort:
    case FinishReason::kError:
      return object{{"type", "abort"}, {"message", "aborted"}};
  }
  return nullptr;
}

}  // namespace

NativeReply::NativeReply(ServeContext& context, std::shared_ptr<HttpReply> http, NativeRequest request,
                         std::vector<std::vector<int32_t>> prompt_ids)
    : Reply(context, std::move(http), request.stream),
      request_(std::move(request)),
      prompt_ids_(std::move(prompt_ids)),
      incremental_(request.stream && context.options.incremental_streaming_output) {
  for (size_t item = 0; item < request_.items.size(); ++item) {
    for (int32_t copy = 0; copy < request_.items[item].generation.n; ++copy) {
      const std::string& id = request_.items[item].request_id;
      outputs_.push_back({.item = item, .id = id.empty() ? new_id("") : id});
    }
  }
}

void NativeReply::on_piece(size_t index, Piece piece) {
  Output& output = outputs_[index];
  output.text += piece.text;
  for (const OutputToken& token : piece.tokens) output.ids.emplace_back(token.id);
  if (request_.items[output.item].return_logprob) {
    if (!output.begun) add_input_logprobs(output, piece);
    for (const OutputToken& token : piece.tokens) add_logprob(token, true, output.logprobs, output.top);
  }
  output.begun = true;
  if (piece.finish) output.finish = finish_json(*piece.finish, sequence(index).generated_tokens);
  if (!stream_ || (piece.text.empty() && piece.tokens.empty() && !piece.finish)) return;
  object chunk = to_json(index);
  if (request_.is_list) chunk["index"] = index;
  send_event(chunk);
  if (!incremental_) return;
  output.text.clear();
  for (array* sent : {&output.ids, &output.logprobs, &output.top, &output.input_logprobs, &output.input_top})
    sent->clear();
}

void NativeReply::add_input_logprobs(Output& output, const Piece& piece) {
  if (request_.items[output.item].logprob_start == 0) {
    add_logprob({.id = prompt_ids_[output.item][0]}, false, output.input_logprobs, output.input_top);
  }
  for (const OutputToken& token : piece.prompt_logprobs) {
    add_logprob(token, true, output.input_logprobs, output.input_top);
  }
}

void NativeReply::add_logprob(const OutputToken& token, bool known, array& logprobs, array& top) const {
  auto entry = [&](int32_t id, value logprob) {
    return array{std::move(logprob), id, token_text(context_.tokenizer, id)};
  };
  logprobs.emplace_back(entry(token.id, known ? value(json_logprob(token.logprob)) : value(nullptr)));
  array best;
  for (const TokenLogprob& one : token.top) best.emplace_back(entry(one.token, json_logprob(one.logprob)));
  top.emplace_back(known ? value(std::move(best)) : value(nullptr));
}

object NativeReply::to_json(size_t index) const {
  const Output& output = outputs_[index];
  object meta{{"id", output.id},
              {"finish_reason", output.finish},
              {"prompt_tokens", sequence(index).prompt_tokens},
              {"completion_tokens", sequence(index).generated_tokens},
              {"cached_tokens", sequence(index).cached_tokens}};
  const NativeItem& item = request_.items[output.item];
  if (item.return_logprob) {
    meta["input_token_logprobs"] = output.input_logprobs;
    meta["output_token_logprobs"] = output.logprobs;
    if (item.generation.sampling.top_logprobs > 0) {
      meta["input_top_logprobs"] = output.input_top;
      meta["output_top_logprobs"] = output.top;
    }
  }
  if (!output.finish.is_null()) meta["e2e_latency"] = double(elapsed_us()) * 1e-6;
  return {{"text", output.text}, {"output_ids", output.ids}, {"meta_info", std::move(meta)}};
}

void NativeReply::on_end() {
  if (stream_) return end_stream();
  if (!request_.is_list) return send_json(to_json(0));
  array answers;
  for (size_t i = 0; i < outputs_.size(); ++i) answers.emplace_back(to_json(i));
  send_json(answers);
}

}  // namespace hylas
