#include "serve/chat_reply.h"

#include "base/clock.h"

namespace hylas {

using boost::json::array;
using boost::json::object;
using boost::json::value;

ChatReply::ChatReply(ServeContext& context, std::shared_ptr<HttpReply> http, ChatRequest request,
                     bool starts_in_reasoning)
    : Reply(context, std::move(http), request.stream.stream),
      request_(std::move(request)),
      id_(request_.request_id.empty() ? new_id("chatcmpl-") : request_.request_id),
      created_s_(wall_clock_us() / 1'000'000) {
  ChatPartsOptions options{.split_reasoning = context.options.reasoning_parser && request_.separate_reasoning,
                           .starts_in_reasoning = starts_in_reasoning,
                           .stream_reasoning = request_.stream_reasoning};
  bool parse_calls = context.options.tool_call_parser && request_.tool_choice.kind != ToolChoice::Kind::kNone;
  if (parse_calls) options.tools = &request_.prompt.tools;
  for (int32_t i = 0; i < request_.generation.n; ++i) choices_.push_back({.parts = ChatParts(options)});
}

void ChatReply::on_piece(size_t index, Piece piece) {
  Choice& choice = choices_[index];
  if (choice.parts.in_reasoning()) choice.reasoning_tokens += int64_t(piece.tokens.size());
  if (request_.generation.sampling.top_logprobs >= 0) {
    for (const OutputToken& token : piece.tokens) choice.logprobs.emplace_back(chat_logprob(context_.tokenizer, token));
  }
  std::vector<ChatPart> parts = choice.parts.push(piece.text);
  if (piece.finish) {
    for (ChatPart& part : choice.parts.finish()) parts.push_back(std::move(part));
    choice.finish = *piece.finish;
  }
  if (stream_ && !choice.begun) {
    choice.begun = true;
    send_chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }
  for (ChatPart& part : parts) {
    if (part.kind == ChatPart::Kind::kCallBegin) choice.calls.push_back({new_id("call_"), part.text, ""});
    if (stream_) {
      stream_part(index, part);
    } else {
      gather(choice, std::move(part));
    }
  }
  if (stream_ && piece.finish) send_chunk(index, {}, &*piece.finish);
}

void ChatReply::gather(Choice& choice, ChatPart part) {
  switch (part.kind) {
    case ChatPart::Kind::kReasoning:
      choice.reasoning += part.text;
      break;
    case ChatPart::Kind::kContent:
      choice.content += part.text;
      break;
    case ChatPart::Kind::kCallBegin:
      break;
    case ChatPart::Kind::kCallArguments:
      choice.calls[size_t(part.call)].arguments += part.text;
      break;
  }
}

void ChatReply::stream_part(size_t index, const ChatPart& part) {
  object delta;
  switch (part.kind) {
    case ChatPart::Kind::kReasoning:
      delta["reasoning_content"] = part.text;
      break;
    case ChatPart::Kind::kContent:
      delta["content"] = part.text;
      break;
    case ChatPart::Kind::kCallBegin: {
      const Call& call = choices_[index].calls[size_t(part.call)];
      object function{{"name", call.name}, {"arguments", ""}};
      delta["tool_calls"] =
          array{object{{"index", part.call}, {"id", call.id}, {"type", "function"}, {"function", std::move(function)}}};
      break;
    }
    case ChatPart::Kind::kCallArguments:
      delta["tool_calls"] = array{object{{"index", part.call}, {"function", object{{"arguments", part.text}}}}};
      break;
  }
  send_chunk(index, std::move(delta), nullptr);
}

object ChatReply::head(std::string_view object_name) const {
  return answer_head(id_, object_name, created_s_, context_.options.model_name);
}

void ChatReply::send_chunk(size_t index, object delta, const Finish* finish) {
  Choice& choice = choices_[index];
  object entry{{"index", index}, {"delta", std::move(delta)}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  bool has_text = !entry["delta"].as_object().contains("role");  // logprobs go with the text that they belong to
  if (has_text && !choice.logprobs.empty()) {
    entry["logprobs"] = object{{"content", std::move(choice.logprobs)}};
    choice.logprobs = array();
  }
  if (finish) {
    entry["finish_reason"] = finish_reason_name(*finish, choice.parts.calls() > 0);
    entry["matched_stop"] = matched_stop(*finish);
  }
  object chunk = head("chat.completion.chunk");
  chunk["choices"] = array{std::move(entry)};
  if (request_.stream.continuous_usage_stats) chunk["usage"] = usage_json(usage());
  send_event(chunk);
}

Usage ChatReply::usage() const {
  Usage usage{.prompt_tokens = sequence(0).prompt_tokens, .cached_tokens = sequence(0).cached_tokens};
  for (size_t i = 0; i < sequences(); ++i) {
    usage.completion_tokens += sequence(i).generated_tokens;
    usage.reasoning_tokens += choices_[i].reasoning_tokens;
  }
  return usage;
}

object ChatReply::choice_json(size_t index) {
  Choice& choice = choices_[index];
  object message{
      {"role", "assistant"}, {"content", choice.content}, {"reasoning_content", nullptr}, {"tool_calls", nullptr}};
  if (choice.content.empty() && !choice.calls.empty()) message["content"] = nullptr;
  if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
  array calls;
  for (const Call& call : choice.calls) {
    object function{{"name", call.name}, {"arguments", call.arguments}};
    calls.emplace_back(object{{"id", call.id}, {"type", "function"}, {"function", std::move(function)}});
  }
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  object entry{{"index", index},
               {"message", std::move(message)},
               {"logprobs", nullptr},
               {"finish_reason", finish_reason_name(choice.finish, choice.parts.calls() > 0)},
               {"matched_stop", matched_stop(choice.finish)}};
  if (request_.generation.sampling.top_logprobs >= 0)
    entry["logprobs"] = object{{"content", std::move(choice.logprobs)}};
  return entry;
}

void ChatReply::on_end() {
  if (stream_) {
    if (request_.stream.include_usage) {
      object chunk = head("chat.completion.chunk");
      chunk["choices"] = array();
      chunk["usage"] = usage_json(usage());
      send_event(chunk);
    }
    return end_stream();
  }
  object answer = head("chat.completion");
  array choices;
  for (size_t i = 0; i < sequences(); ++i) choices.emplace_back(choice_json(i));
  answer["choices"] = std::move(choices);
  answer["usage"] = usage_json(usage());
  send_json(answer);
}

}  // namespace hylas
