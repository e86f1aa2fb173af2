#include "serve/reply.h"

#include <algorithm>

#include "base/clock.h"
#include "serve/api_error.h"

namespace hylas {

Reply::Reply(ServeContext& context, std::shared_ptr<HttpReply> http, bool stream)
    : context_(context),
      stream_(stream && context.engine.info().role != InstanceRole::kPrefill),
      http_(std::move(http)),
      started_us_(now_us()) {}

int64_t Reply::elapsed_us() const { return now_us() - started_us_; }

void Reply::start(std::vector<Job> jobs) {
  unfinished_ = jobs.size();
  Status submitted = submit(std::move(jobs));
  if (!submitted.ok()) {
    failed_ = true;
    abort_all();
    http_->reply_json(http_status(submitted.error().code), error_json(submitted.error()));
  } else {
    // A stream of a decoding instance begins with the first token: until then it may end with a status that a router
    // tries again.
    if (stream_ && context_.engine.info().role != InstanceRole::kDecode) begin_stream();
    http_->on_gone([weak = weak_from_this()] {
      if (auto self = weak.lock()) self->abort_all();
    });
  }
  handle_mail();
}

Status Reply::submit(std::vector<Job> jobs) {
  sequences_.reserve(jobs.size());
  for (Job& job : jobs) {
    size_t index = sequences_.size();
    sequences_.push_back({.text = std::move(job.text), .name = std::move(job.name)});
    sequences_[index].prompt_tokens = int32_t(job.request.prompt.size());
    if (job.request.bootstrap) job.request.bootstrap->room += index;
    auto callback = [self = shared_from_this(), index](Output output) { self->deliver({index, std::move(output)}); };
    auto id = context_.engine.submit(std::move(job.request), std::move(callback));
    if (!id.ok()) {
      sequences_.pop_back();
      return id.error();
    }
    sequences_[index].id = *id;
    if (!sequences_[index].name.empty()) context_.running.add(sequences_[index].name, *id);
  }
  return {};
}

void Reply::deliver(Mail mail) {
  {
    std::lock_guard lock(mutex_);
    mailbox_.push_back(std::move(mail));
    if (scheduled_) return;
    scheduled_ = true;
  }
  context_.workers.post([self = shared_from_this()] { self->handle_mail(); });
}

void Reply::handle_mail() {
  while (true) {
    std::deque<Mail> mails;
    {
      std::lock_guard lock(mutex_);
      if (mailbox_.empty()) {
        scheduled_ = false;
        return;
      }
      mails.swap(mailbox_);
    }
    for (Mail& mail : mails) handle(std::move(mail));
  }
}

void Reply::handle(Mail mail) {
  Sequence& sequence = sequences_[mail.index];
  bool engine_ended = mail.output.finish.has_value();
  if (engine_ended && !sequence.name.empty()) context_.running.remove(sequence.name, sequence.id);
  if (sequence.finished || failed_) return;
  Piece piece = sequence.text.push(std::move(mail.output));
  if (sequence.text.stopped_early() && !engine_ended) context_.engine.abort(sequence.id);
  count(sequence, piece);
  if (piece.finish && piece.finish->reason == FinishReason::kError) {
    return fail({piece.finish->may_retry ? ErrorCode::kUnavailable : ErrorCode::kIo, piece.finish->error});
  }
  sequence.finished = piece.finish.has_value();
  if (stream_ && !is_streaming_) begin_stream();
  if (!http_->gone()) on_piece(mail.index, std::move(piece));
  if (sequence.finished && --unfinished_ == 0) on_end();
}

void Reply::count(Sequence& sequence, const Piece& piece) {
  sequence.cached_tokens = std::max(sequence.cached_tokens, piece.cached_tokens);
  int64_t at_us = now_us();
  for (size_t i = 0; i < piece.tokens.size(); ++i) {
    if (sequence.generated_tokens == 0) {
      context_.metrics.first_token(at_us - started_us_);
    } else {
      context_.metrics.next_token((at_us - sequence.last_token_us) / int64_t(piece.tokens.size()));
    }
    ++sequence.generated_tokens;
  }
  if (!piece.tokens.empty()) sequence.last_token_us = at_us;
  if (piece.finish) context_.metrics.finished(at_us - started_us_, sequence.prompt_tokens, sequence.generated_tokens);
}

void Reply::fail(const Error& error) {
  failed_ = true;
  abort_all();
  if (!is_streaming_) return http_->reply_json(http_status(error.code), error_json(error));
  http_->write(fmt::format("data: {}\n\n", error_json(error)));
  end_stream();
}

void Reply::begin_stream() {
  is_streaming_ = true;
  http_->begin_stream("text/event-stream");
}

void Reply::abort_all() {
  for (const Sequence& sequence : sequences_) context_.engine.abort(sequence.id);
}

void Reply::send_json(const boost::json::value& body) { http_->reply_json(200, boost::json::serialize(body)); }

void Reply::send_event(const boost::json::value& data) {
  http_->write(fmt::format("data: {}\n\n", boost::json::serialize(data)));
}

void Reply::end_stream() {
  http_->write("data: [DONE]\n\n");
  http_->end();
}

}  // namespace hylas
