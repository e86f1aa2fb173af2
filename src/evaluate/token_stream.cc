#include "evaluate/token_stream.h"

#include "base/clock.h"

namespace hylas {

bool TokenStream::push(std::string_view data, int64_t at_us) {
  if (data == "[DONE]") {
    done_ = true;
    return false;
  }
  Status status = read(data, at_us);
  if (!status.ok()) timing_.failure = status.error().message;
  return status.ok();
}

void TokenStream::end() {
  if (!timing_.failure.empty()) return;
  if (!done_) {
    timing_.failure = fmt::format("the stream ended after {} tokens without [DONE]", timing_.output_tokens);
  } else if (timing_.arrivals.empty()) {
    timing_.failure = "the stream held no token";
  }
}

Status TokenStream::read(std::string_view data, int64_t at_us) {
  HYLAS_ASSIGN(json::object event, json::parse_object(data, "an event of the stream"));
  if (const json::value* problem = event.if_contains("error"); problem && !problem->is_null()) {
    const json::value* message = problem->is_object() ? problem->as_object().if_contains("message") : nullptr;
    return error(ErrorCode::kIo, "the server ended the stream: {}",
                 boost::json::serialize(message ? *message : *problem));
  }
  return api_ == Api::kGenerate ? read_generate(event, at_us) : read_completions(event, at_us);
}

Status TokenStream::read_generate(const json::object& event, int64_t at_us) {
  HYLAS_ASSIGN(const json::object* meta, json::require_object(event, "meta_info"));
  HYLAS_ASSIGN(int64_t tokens, json::require_int(*meta, "completion_tokens", "meta_info"));
  HYLAS_ASSIGN(timing_.prompt_tokens, json::require_int(*meta, "prompt_tokens", "meta_info"));
  count(tokens, at_us);
  HYLAS_ASSIGN(const json::object* reason, json::optional_object(*meta, "finish_reason", "meta_info"));
  if (!reason) return {};
  HYLAS_ASSIGN(std::string_view type, json::require_string(*reason, "type", "meta_info.finish_reason"));
  return type == "abort" ? Status(error(ErrorCode::kIo, "the server aborted the request")) : Status();
}

Status TokenStream::read_completions(const json::object& event, int64_t at_us) {
  HYLAS_ASSIGN(const json::object* usage, json::optional_object(event, "usage"));
  HYLAS_ASSIGN(const json::array* choices, json::require_array(event, "choices"));
  if (usage) {
    HYLAS_ASSIGN(timing_.prompt_tokens, json::require_int(*usage, "prompt_tokens", "usage"));
    HYLAS_ASSIGN(int64_t tokens, json::require_int(*usage, "completion_tokens", "usage"));
    if (!choices->empty()) count(tokens, at_us);
    timing_.output_tokens = tokens;  // the last usage is the whole answer's: it corrects a count of chunks
  } else if (!choices->empty() && choices->front().is_object()) {
    HYLAS_ASSIGN(auto text, json::optional_string(choices->front().as_object(), "text", "choices[0]"));
    if (text && !text->empty()) count(timing_.output_tokens + 1, at_us);
  }
  return {};
}

void TokenStream::count(int64_t tokens_so_far, int64_t at_us) {
  if (tokens_so_far <= timing_.output_tokens) return;
  timing_.arrivals.push_back({at_us, tokens_so_far - timing_.output_tokens});
  timing_.output_tokens = tokens_so_far;
}

RequestTiming time_task(const Target& target, const Task& task) {
  std::string body = body_of(target, task, true);
  RequestTiming timing{.sent_us = now_us()};
  TokenStream stream(target.api, timing);
  Status status = target.client.post_stream(
      path_of(target.api), body, [&](std::string_view data, int64_t at_us) { return stream.push(data, at_us); });
  if (status.ok()) {
    stream.end();
  } else {
    timing.failure = status.error().message;
  }
  return timing;
}

}  // namespace hylas
