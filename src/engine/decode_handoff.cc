#include "engine/decode_handoff.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "engine/plan_codec.h"

namespace hylas {

void DecodeHandoff::on_event(DecodePort::Event event) {
  std::visit([this](auto& what) { on(what); }, event);
}

void DecodeHandoff::submit(RequestId id, Request request) {
  HYLAS_CHECK(request.bootstrap, "a request without a prefilling instance");
  Waiting waiting;
  waiting.id = id;
  waiting.bootstrap = *request.bootstrap;
  waiting.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  waiting.prompt_checksum = prompt_checksum(request.prompt);
  queued_.emplace(id, std::move(waiting));
  scheduler_.submit(id, std::move(request));
}

void DecodeHandoff::abort(RequestId id) {
  add(scheduler_.abort(id));
  queued_.erase(id);
  abort_epoch_of(id);
}

void DecodeHandoff::abort_all() {
  add(scheduler_.abort_all());
  queued_.clear();
  for (const auto& [epoch, waiting] : epochs_) port_->abort(epoch);
}

void DecodeHandoff::abort_epoch_of(RequestId id) {
  for (const auto& [epoch, waiting] : epochs_) {
    if (waiting.id == id) port_->abort(epoch);
  }
}

void DecodeHandoff::advance(int64_t) {
  for (Reservation& memory : scheduler_.take_reservations()) {
    auto found = queued_.find(memory.id);
    if (found == queued_.end()) {  // its client left in the meantime
      scheduler_.on_not_landed(memory.id);
      continue;
    }
    Waiting waiting = std::move(found->second);
    queued_.erase(found);
    waiting.memory = std::move(memory);
    grant(std::move(waiting));
  }
}

void DecodeHandoff::grant(Waiting waiting) {
  Grant grant;
  grant.room = waiting.bootstrap.room;
  grant.epoch = ++epoch_;
  grant.prompt_tokens = waiting.prompt_tokens;
  grant.prompt_checksum = waiting.prompt_checksum;
  grant.group = waiting.memory.group;
  grant.slot = waiting.memory.slot;
  grant.pages = waiting.memory.pages;
  ++waiting.tries;
  const HostPort prefill = waiting.bootstrap.prefill;
  epochs_.emplace(epoch_, std::move(waiting));
  port_->grant(prefill, grant);
}

void DecodeHandoff::on(DecodePort::Landed& event) {
  auto node = epochs_.extract(event.epoch);
  HYLAS_CHECK(!node.empty(), "epoch {} landed twice", event.epoch);
  Waiting& waiting = node.mapped();
  if (!scheduler_.is_live(waiting.id)) return scheduler_.on_not_landed(waiting.id);
  Status status = event.status;
  std::optional<FirstToken> first = decode_first(event.first);
  if (status.ok() && !first) status = error(ErrorCode::kIo, "the first token is malformed");
  if (status.ok()) {
    port_->received(event.epoch);
    return add(scheduler_.on_landed(waiting.id, *std::move(first)));
  }
  const std::string where = to_string(waiting.bootstrap.prefill);
  log::warn("a state from {} arrived wrong (try {} of {}): {}", where, waiting.tries, kTriesMax,
            status.error().message);
  if (waiting.tries < kTriesMax) return grant(std::move(waiting));
  port_->abort(event.epoch);
  add(scheduler_.fail(waiting.id, fmt::format("the state from {}: {}", where, status.error().message), true));
  scheduler_.on_not_landed(waiting.id);
}

void DecodeHandoff::on(DecodePort::Closed& event) {
  auto node = epochs_.extract(event.epoch);
  HYLAS_CHECK(!node.empty(), "epoch {} closed twice", event.epoch);
  const RequestId id = node.mapped().id;
  add(scheduler_.fail(id, event.why, event.may_retry));
  scheduler_.on_not_landed(id);
}

void DecodeHandoff::on(DecodePort::Stalled& event) {
  auto found = epochs_.find(event.epoch);
  HYLAS_CHECK(found != epochs_.end(), "epoch {} stalled after its end", event.epoch);
  add(scheduler_.fail(found->second.id, event.why, true));
  port_->abort(event.epoch);
}

void DecodeHandoff::close() {
  port_.reset();
  for (const auto& [epoch, waiting] : std::exchange(epochs_, {})) {
    add(scheduler_.fail(waiting.id, "the instance is stopping", true));
    scheduler_.on_not_landed(waiting.id);
  }
}

}  // namespace hylas
