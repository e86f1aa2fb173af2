#include "router/attempt.h"

#include <algorithm>

#include "base/clock.h"
#include "serve/api_error.h"

namespace hylas::router {
namespace {

constexpr size_t kUnsentBytesMax = 256 << 10;  // of a stream; above, the instance is not read
constexpr size_t kEventBytesMax = 4 << 20;
constexpr size_t kAnswerBytesMax = 512 << 20;  // of an answer that is no stream
constexpr size_t kPrefillBytesMax = 1 << 20;

constexpr const char* kEventStream = "text/event-stream";

}  // namespace

bool is_retriable(int status) {
  constexpr int kStatuses[] = {408, 429, 500, 502, 503, 504};
  return std::ranges::find(kStatuses, status) != std::end(kStatuses);
}

// What one side has answered so far. Written by the client's threads, read by the loop once it has ended.
class Attempt::Leg {
 public:
  explicit Leg(Side side) : side_(side) {}

  bool take_body(std::string_view bytes) {
    if (error_event_ || (side_ == Side::kPrefill && status_ == 200)) return true;  // nobody reads it
    size_t bytes_max = side_ == Side::kAnswer ? kAnswerBytesMax : kPrefillBytesMax;
    if (body_.size() + bytes.size() > bytes_max) {
      too_long_ = true;
    } else {
      body_ += bytes;
    }
    return true;
  }
  // A stream whose first event is an error is an answer with that status.
  void become_error(int status, std::string_view data) {
    error_event_ = true;
    status_ = status;
    type_ = "application/json";
    body_ = data;
  }
  SideEnd verdict() const {
    using Verdict = SideEnd::Verdict;
    if (cancelled_) return {};
    if (failure_ && !error_event_) {
      return {failure_->refused ? Verdict::kRefused : Verdict::kBroken, failure_->reason};
    }
    if (!is_retriable(status_)) return {Verdict::kGood, ""};
    return {status_ == 429 ? Verdict::kBusy : Verdict::kFailed, fmt::format("answered {}", status_)};
  }
  void cancel() {
    if (ended_) return;
    cancelled_ = true;
    if (auto call = call_.lock()) call->cancel();
  }
  bool good() const { return ended_ && !failure_ && status_ == 200; }

  const Side side_;
  std::weak_ptr<UpstreamCall> call_;  // lives until its end by itself
  int status_ = 0;
  std::string type_, body_;
  std::optional<UpstreamFailure> failure_;
  bool streams_ = false, error_event_ = false, too_long_ = false;
  bool ended_ = false, cancelled_ = false;  // the loop's
};

// Held by the call alone: whether that ends or is dropped, nothing of the attempt stays behind.
class Attempt::Sink : public UpstreamSink {
 public:
  Sink(std::shared_ptr<Attempt> attempt, Leg& leg) : attempt_(std::move(attempt)), leg_(leg) {}

  void on_head(int status, std::string_view content_type) override {
    leg_.status_ = status;
    leg_.type_ = content_type;
    leg_.streams_ = leg_.side_ == Side::kAnswer && status == 200 && leg_.type_.starts_with(kEventStream);
  }
  bool on_bytes(std::string_view bytes) override {
    if (leg_.streams_ && !leg_.error_event_) return attempt_->take_bytes(bytes);
    return leg_.take_body(bytes);
  }
  void on_end(const UpstreamFailure* failure) override {
    if (failure) leg_.failure_ = *failure;
    if (leg_.too_long_) leg_.failure_ = UpstreamFailure{false, "the answer is too long"};
    attempt_->loop_.post([attempt = attempt_, leg = &leg_] {
      leg->ended_ = true;
      attempt->leg_ended(*leg);
    });
  }

 private:
  const std::shared_ptr<Attempt> attempt_;
  Leg& leg_;  // of the attempt
};

Attempt::Attempt(EventLoop& loop, std::shared_ptr<HttpReply> reply, Events events)
    : loop_(loop), reply_(std::move(reply)), events_(std::move(events)), cutter_(kEventBytesMax) {}

void Attempt::start(UpstreamClient& client, UpstreamRequest answer, std::optional<UpstreamRequest> prefill) {
  answer_ = std::make_shared<Leg>(Side::kAnswer);
  if (prefill) {
    prefill_ = std::make_shared<Leg>(Side::kPrefill);
    prefill_->call_ = client.start(std::move(*prefill), std::make_shared<Sink>(shared_from_this(), *prefill_));
  }
  // take_bytes() of a fast answer waits for call_ to be there.
  std::lock_guard lock(mutex_);
  answer_->call_ = client.start(std::move(answer), std::make_shared<Sink>(shared_from_this(), *answer_));
}

bool Attempt::take_bytes(std::string_view bytes) {
  std::string events = cutter_.push(bytes);
  return events.empty() || pass_on(std::move(events));
}

bool Attempt::pass_on(std::string events) {
  std::weak_ptr<UpstreamCall> call;
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kOver) return true;
    if (state_ == State::kWaiting) {
      if (int status = error_event_status(events)) {
        answer_->become_error(status, first_event_data(events));
        return true;
      }
      state_ = State::kStreaming;
      first_byte_us_ = now_us();
      reply_->begin_stream(answer_->type_);
    }
    reply_->write(events);
    if (reply_->unsent_bytes() <= kUnsentBytesMax) return true;
    call = answer_->call_;
  }
  reply_->on_writable([call] {
    if (auto running = call.lock()) running->resume();
  });
  return false;
}

bool Attempt::waits_for(Side side) const {
  const auto& leg = side == Side::kAnswer ? answer_ : prefill_;
  return leg && !leg->ended_;
}

void Attempt::cancel() {
  {
    std::lock_guard lock(mutex_);
    state_ = State::kOver;
  }
  events_.ended = nullptr;
  answer_->cancel();
  if (prefill_) prefill_->cancel();
}

void Attempt::give_up(int status, const std::string& reason, bool ends_streams) {
  if (enter_over()) {
    answer_->cancel();
    if (prefill_) prefill_->cancel();
    return end({.kind = AttemptEnd::Kind::kFailed, .status = status, .reason = reason});
  }
  if (!ends_streams || !events_.ended) return;
  {
    std::lock_guard lock(mutex_);
    state_ = State::kOver;
    reply_->write(fmt::format("data: {}\n\n", error_json(status, reason)));
    reply_->end();
  }
  answer_->cancel();
  if (prefill_) prefill_->cancel();
  end({.kind = AttemptEnd::Kind::kBroken, .status = 200, .reason = reason, .first_byte_us = first_byte_us_});
}

void Attempt::leg_ended(Leg& leg) {
  SideEnd side_end = leg.verdict();
  // An instance that decodes can fail because of the one that fills the prompt.
  bool blameless = leg.side_ == Side::kAnswer && prefill_ && !prefill_->good();
  if (blameless && side_end.verdict == SideEnd::Verdict::kFailed) side_end.verdict = SideEnd::Verdict::kCancelled;
  events_.side_ended(leg.side_, side_end);
  if (!events_.ended) return;
  if (leg.side_ == Side::kAnswer) {
    answer_ended();
  } else {
    prefill_ended();
  }
}

void Attempt::answer_ended() {
  bool streaming;
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kOver) return;
    streaming = state_ == State::kStreaming;
  }
  if (streaming) return end_stream();
  if (answer_->streams_ && !answer_->error_event_ && !answer_->failure_) {
    return fail(0, "", "", "the stream ended before its first event");
  }
  conclude(*answer_);
}

void Attempt::prefill_ended() {
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kWaiting) return;
  }
  if (!prefill_->good()) conclude(*prefill_);
}

// A side has ended and the client has nothing yet.
void Attempt::conclude(Leg& leg) {
  if (leg.failure_ && !leg.error_event_) return fail(0, "", "", leg.failure_->reason);
  if (is_retriable(leg.status_)) {
    return fail(leg.status_, leg.type_, std::move(leg.body_), fmt::format("an instance answered {}", leg.status_));
  }
  if (!enter_over()) return;
  reply_->reply(leg.status_, leg.type_, std::move(leg.body_));
  bool filling = leg.side_ == Side::kAnswer && leg.status_ == 200;  // its last bytes are still on their way
  if (prefill_ && !filling) prefill_->cancel();
  if (leg.side_ == Side::kPrefill) answer_->cancel();
  end({.kind = AttemptEnd::Kind::kAnswered, .status = leg.status_, .first_byte_us = now_us()});
}

void Attempt::end_stream() {
  AttemptEnd ended{.kind = AttemptEnd::Kind::kAnswered, .status = 200};
  {
    std::lock_guard lock(mutex_);
    state_ = State::kOver;
    ended.first_byte_us = first_byte_us_;
    if (answer_->failure_) {
      ended.kind = AttemptEnd::Kind::kBroken;
      ended.reason = answer_->failure_->reason;
      reply_->write(
          fmt::format("data: {}\n\n",
                      error_json(502, fmt::format("the answer broke off: the instance is lost ({})", ended.reason))));
    } else if (!cutter_.rest().empty()) {
      reply_->write(cutter_.rest());
    }
    reply_->end();
  }
  if (answer_->failure_ && prefill_) prefill_->cancel();
  end(std::move(ended));
}

bool Attempt::enter_over() {
  std::lock_guard lock(mutex_);
  if (state_ != State::kWaiting) return false;
  state_ = State::kOver;
  return true;
}

void Attempt::fail(int status, std::string type, std::string body, std::string reason) {
  if (!enter_over()) return;
  answer_->cancel();
  if (prefill_) prefill_->cancel();
  end({.kind = AttemptEnd::Kind::kFailed,
       .status = status,
       .type = std::move(type),
       .body = std::move(body),
       .reason = std::move(reason)});
}

void Attempt::end(AttemptEnd end) {
  auto tell = std::exchange(events_.ended, nullptr);
  if (tell) tell(std::move(end));
}

}  // namespace hylas::router
