#include "engine/instance_pair.h"

#include <utility>

namespace hylas {

class InstancePair::PrefillEnd final : public PrefillPort {
 public:
  explicit PrefillEnd(InstancePair& pair) : pair_(pair) {}
  uint16_t port() const override { return 1; }
  int32_t peers() const override { return 1; }
  void send(int32_t peer, const ControlMessage& message) override {
    if (peer == pair_.peer_) pair_.to_decode_.push_back(message);
  }
  void disconnect(int32_t) override {}  // the test says when a connection ends

 private:
  InstancePair& pair_;
};

class InstancePair::DecodeEnd final : public DecodePort {
 public:
  explicit DecodeEnd(InstancePair& pair) : pair_(pair) {}
  void grant(const HostPort&, const Grant& grant) override {
    pair_.rooms_[grant.epoch] = grant.room;
    pair_.to_prefill_.push_back(grant);
  }
  void abort(uint64_t epoch) override {
    if (pair_.rooms_.contains(epoch)) pair_.to_prefill_.push_back(Abort{pair_.rooms_.at(epoch), epoch});
  }
  void received(uint64_t epoch) override { pair_.to_prefill_.push_back(Received{pair_.landed_room_, epoch}); }

 private:
  InstancePair& pair_;
};

InstancePair::InstancePair(const SchedulerOptions& prefill_options, const SchedulerOptions& decode_options)
    : prefill(prefill_options),
      decode(decode_options),
      prefill_handoff_(prefill.scheduler, {.page_size = prefill_options.page_size}),
      decode_handoff_(decode.scheduler) {
  prefill_handoff_.connect(std::make_unique<PrefillEnd>(*this));
  decode_handoff_.connect(std::make_unique<DecodeEnd>(*this));
}

void InstancePair::settle(Side& side, Handoff& handoff) {
  handoff.advance(int64_t{now_s} * 1'000'000);
  for (Output& output : handoff.take_outputs()) {
    Text& text = side.texts[output.id];
    HYLAS_CHECK(!text.finish, "an output of {} after its last", output.id);
    for (const OutputToken& token : output.tokens) text.tokens.push_back(token.id);
    for (const OutputToken& token : output.prompt_logprobs) text.prompt_logprobs.push_back(token);
    text.finish = output.finish;
    text.stop_token = output.stop_token;
    if (output.finish == FinishReason::kError) side.may_retry[output.id] = output.may_retry;
  }
}

void InstancePair::submit_prefill(RequestId id, uint64_t room, Request request) {
  request.bootstrap = Bootstrap{{"prefill", 1}, room};
  prefill_handoff_.submit(id, std::move(request));
  settle(prefill, prefill_handoff_);
}

void InstancePair::submit_decode(RequestId id, uint64_t room, Request request) {
  request.bootstrap = Bootstrap{{"prefill", 1}, room};
  decode_handoff_.submit(id, std::move(request));
  settle(decode, decode_handoff_);
}

void InstancePair::abort_prefill(RequestId id) {
  prefill_handoff_.abort(id);
  settle(prefill, prefill_handoff_);
}

void InstancePair::abort_decode(RequestId id) {
  decode_handoff_.abort(id);
  settle(decode, decode_handoff_);
}

bool InstancePair::plan(Side& side) {
  std::optional<StepPlan> plan = side.scheduler.next_plan();
  if (plan) side.sent.push_back(*std::move(plan));
  if (&side == &prefill) {
    settle(prefill, prefill_handoff_);
  } else {
    settle(decode, decode_handoff_);
  }
  return plan.has_value();
}

bool InstancePair::finish_one(Side& side) {
  if (side.sent.empty()) return false;
  const StepPlan plan = std::move(side.sent.front());
  side.sent.pop_front();
  StepResult result = side.rank.execute(plan);
  for (const LandOp& op : plan.lands) copied_.insert(copied_.end(), side.options.group_ranks, op.sequence);
  for (const SendOp& op : plan.sends) parts_.push_back({op, side.options.group_ranks});
  Handoff& handoff = &side == &prefill ? static_cast<Handoff&>(prefill_handoff_) : decode_handoff_;
  handoff.take(side.scheduler.on_result(std::move(result)));
  settle(side, handoff);
  return true;
}

// The bytes are those that lie there now: memory that was given to somebody else meanwhile shows in a text.
bool InstancePair::deliver_part(size_t index) {
  if (index >= parts_.size()) return false;
  Part& part = parts_[index];
  const bool is_first = part.reports == prefill.options.group_ranks;
  SentReport report{part.op.transfer, --part.reports, {}};
  if (part.op.peer != peer_) {
    report.result.status = error(ErrorCode::kIo, "the connection is gone");
  } else if (is_first) {
    prefill.rank.send(part.op, decode.rank);
  }
  if (part.reports == 0) parts_.erase(parts_.begin() + static_cast<int64_t>(index));
  prefill_handoff_.on_sent(report);
  settle(prefill, prefill_handoff_);
  return true;
}

bool InstancePair::deliver_copied() {
  if (copied_.empty()) return false;
  const RequestId id = copied_.front();
  copied_.pop_front();
  decode.scheduler.on_copied(id);
  return true;
}

bool InstancePair::deliver_to_prefill() {
  if (to_prefill_.empty()) return false;
  const ControlMessage message = std::move(to_prefill_.front());
  to_prefill_.pop_front();
  if (const auto* grant = std::get_if<Grant>(&message)) prefill_handoff_.on_event(PrefillPort::Granted{peer_, *grant});
  if (const auto* abort = std::get_if<Abort>(&message))
    prefill_handoff_.on_event(PrefillPort::AbortWanted{peer_, *abort});
  if (const auto* got = std::get_if<Received>(&message))
    prefill_handoff_.on_event(PrefillPort::WasReceived{peer_, *got});
  settle(prefill, prefill_handoff_);
  return true;
}

bool InstancePair::deliver_to_decode() {
  if (to_decode_.empty()) return false;
  const ControlMessage message = std::move(to_decode_.front());
  to_decode_.pop_front();
  if (const auto* done = std::get_if<Done>(&message); done && rooms_.erase(done->epoch)) {
    Status status;
    if (std::exchange(is_damaged_, false)) status = error(ErrorCode::kIo, "the sums differ");
    landed_room_ = done->room;
    decode_handoff_.on_event(DecodePort::Landed{done->epoch, done->first, status});
  }
  if (const auto* failed = std::get_if<Failed>(&message); failed && rooms_.erase(failed->epoch)) {
    decode_handoff_.on_event(DecodePort::Closed{failed->epoch, failed->may_retry, failed->why});
  }
  if (const auto* aborted = std::get_if<Aborted>(&message); aborted && rooms_.erase(aborted->epoch)) {
    decode_handoff_.on_event(DecodePort::Closed{aborted->epoch, true, "aborted"});
  }
  settle(decode, decode_handoff_);
  return true;
}

// Both sides notice at once; parts under way fail when they are delivered.
void InstancePair::lose_connection() {
  to_prefill_.clear();
  to_decode_.clear();
  prefill_handoff_.on_event(PrefillPort::PeerGone{peer_++, "lost"});
  settle(prefill, prefill_handoff_);
  for (const auto& [epoch, room] : std::exchange(rooms_, {})) {
    decode_handoff_.on_event(DecodePort::Closed{epoch, true, "lost"});
  }
  settle(decode, decode_handoff_);
}

void InstancePair::stall() {
  for (const auto& [epoch, room] : std::map(rooms_)) decode_handoff_.on_event(DecodePort::Stalled{epoch, "silent"});
  settle(decode, decode_handoff_);
}

void InstancePair::run_until_idle() {
  while (plan(prefill) || plan(decode) || finish_one(prefill) || finish_one(decode) || deliver_part(0) ||
         deliver_copied() || deliver_to_prefill() || deliver_to_decode()) {
  }
}

bool InstancePair::idle() const {
  return prefill.scheduler.idle() && decode.scheduler.idle() && prefill_handoff_.idle() && decode_handoff_.idle();
}

bool InstancePair::clean() const {
  for (const Side* side : {&prefill, &decode}) {
    const EngineStats stats = side->scheduler.stats();
    if (stats.pages_used + stats.slots_used + stats.running + stats.queued + stats.transfers > 0) return false;
    if (stats.landing_pages_used + stats.landing_slots_used > 0) return false;
    if (!side->rank.forgot_everything()) return false;
  }
  return idle();
}

}  // namespace hylas
