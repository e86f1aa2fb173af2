#include "engine/prefill_handoff.h"

#include <algorithm>
#include <utility>

#include "base/byte_io.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/plan_codec.h"
#include "text/grammar.h"

namespace hylas {

uint64_t prompt_checksum(const std::vector<int32_t>& prompt) {
  return checksum({reinterpret_cast<const char*>(prompt.data()), prompt.size() * sizeof(int32_t)});
}

void PrefillHandoff::on_event(PrefillPort::Event event) {
  std::visit([this](auto& what) { on(what); }, event);
}

void PrefillHandoff::send(int32_t peer, const ControlMessage& message) {
  if (port_) port_->send(peer, message);
}

void PrefillHandoff::refuse(int32_t peer, const Grant& grant, bool may_retry, std::string why) {
  send(peer, Failed{grant.room, grant.epoch, may_retry, std::move(why)});
}

void PrefillHandoff::submit(RequestId id, Request request) {
  HYLAS_CHECK(request.bootstrap, "a request without a room");
  const uint64_t number = request.bootstrap->room;
  if (rooms_.contains(number)) {
    Output output;
    output.id = id;
    output.finish = FinishReason::kError;
    output.error = fmt::format("bootstrap_room {} belongs to another request", number);
    return add(std::move(output));
  }
  if (!request.sampling.seed) request.sampling.seed = seeds_();
  Room& room = rooms_[number];
  room.id = id;
  room.request = std::move(request);
  room.since_us = now_us();
  by_id_[id] = number;
  if (auto early = early_.extract(number)) begin(number, room, early.mapped().peer, early.mapped().grant);
}

void PrefillHandoff::on(PrefillPort::Granted& event) {
  const uint64_t number = event.grant.room;
  auto found = rooms_.find(number);
  if (found == rooms_.end()) {
    const bool is_new = early_.emplace(number, EarlyGrant{event.peer, event.grant, now_us()}).second;
    if (!is_new) refuse(event.peer, event.grant, false, "another grant holds the room");
    return;
  }
  Room& room = found->second;
  const bool is_again = room.is_done && room.peer == event.peer;  // what was sent arrived wrong
  if (room.attempt != 0 || (room.is_done && !is_again)) {
    return refuse(event.peer, event.grant, false, "another grant holds the room");
  }
  if (is_again) {
    log::warn("a state arrived wrong at peer {}: prefilling {} tokens again", event.peer, room.request.prompt.size());
    if (room.request.grammar && !room.said.tokens.empty()) room.request.grammar->rollback(1);
    room.said = {};
    room.is_done = false;
  }
  begin(number, room, event.peer, event.grant);
}

// Prefills for a grant.
void PrefillHandoff::begin(uint64_t number, Room& room, int32_t peer, const Grant& grant) {
  const auto tokens = static_cast<int32_t>(room.request.prompt.size());
  const bool fits = grant.pages.size() == static_cast<size_t>((tokens + options_.page_size - 1) / options_.page_size);
  if (grant.prompt_tokens != tokens || grant.prompt_checksum != prompt_checksum(room.request.prompt) || !fits) {
    const std::string why =
        fmt::format("the prompt is not the same on both sides: {} tokens here, {} there", tokens, grant.prompt_tokens);
    refuse(peer, grant, false, why);
    return finish(rooms_.find(number), FinishReason::kError, why);
  }
  room.peer = peer;
  room.epoch = grant.epoch;
  room.attempt = ++attempts_;
  by_attempt_[room.attempt] = number;
  Request request = room.request;
  request.sampling.max_new_tokens = 1;
  request.sampling.min_new_tokens = std::min(request.sampling.min_new_tokens, 1);
  scheduler_.submit(room.attempt, std::move(request), SendTarget{peer, grant.group, grant.slot, grant.pages});
}

void PrefillHandoff::take(std::vector<Output> outputs) {
  for (Output& output : outputs) {
    rooms_.at(by_attempt_.at(output.id)).said = std::move(output);
  }
}

// The attempt ends in the scheduler; depart() says what that means.
void PrefillHandoff::give_up(Room& room) { scheduler_.abort(room.attempt); }

void PrefillHandoff::depart(const Departure& departure) {
  const auto by_attempt = by_attempt_.find(departure.id);
  const auto found = rooms_.find(by_attempt->second);
  by_attempt_.erase(by_attempt);
  Room& room = found->second;
  room.attempt = 0;
  const uint64_t number = found->first;
  const auto fail = [&](bool may_retry, const std::string& why) {
    send(room.peer, Failed{number, room.epoch, may_retry, why});
    finish(found, FinishReason::kError, why, may_retry);
  };
  if (room.is_aborted) {
    send(room.peer, Aborted{number, room.epoch});
    return finish(found, FinishReason::kAbort);
  }
  if (room.peer_gone) return fail(true, "the decoding instance is gone");
  if (room.client_left) return fail(true, "the request was aborted at the prefilling instance");
  if (!departure.error.empty()) {  // whatever follows would fail, too: the next connection has a new path
    if (port_) port_->disconnect(room.peer);
    return fail(true, "sending the state failed: " + departure.error);
  }
  HYLAS_CHECK(room.said.finish, "an attempt ended without a word");
  if (room.said.finish == FinishReason::kError) return fail(room.said.may_retry, room.said.error);
  room.is_done = true;
  FirstToken first{room.said.tokens.at(0), room.said.prompt_logprobs, *room.request.sampling.seed};
  send(room.peer, Done{number, room.epoch, departure.sent, encode_first(first)});
}

void PrefillHandoff::on(PrefillPort::AbortWanted& event) {
  const auto [number, epoch] = event.abort;
  if (auto early = early_.find(number); early != early_.end() && early->second.peer == event.peer) early_.erase(early);
  const auto found = rooms_.find(number);
  const bool is_mine = found != rooms_.end() && found->second.peer == event.peer && found->second.epoch == epoch;
  if (is_mine && found->second.attempt != 0) {
    found->second.is_aborted = true;
    return give_up(found->second);
  }
  send(event.peer, Aborted{number, epoch});  // nothing of it is being written
  if (is_mine) finish(found, FinishReason::kAbort);
}

void PrefillHandoff::on(PrefillPort::WasReceived& event) {
  const auto found = rooms_.find(event.received.room);
  if (found == rooms_.end() || !found->second.is_done || found->second.peer != event.peer ||
      found->second.epoch != event.received.epoch) {
    return;
  }
  Output output = std::move(found->second.said);
  output.id = found->second.id;
  by_id_.erase(output.id);
  rooms_.erase(found);
  add(std::move(output));
}

void PrefillHandoff::on(PrefillPort::PeerGone& event) {
  const auto lost = std::ranges::count(rooms_, event.peer, [](const auto& room) { return room.second.peer; });
  if (lost > 0) log::warn("{} requests end here: their decoding instance is gone: {}", lost, event.why);
  std::erase_if(early_, [&](const auto& entry) { return entry.second.peer == event.peer; });
  for (auto it = rooms_.begin(); it != rooms_.end();) {
    const auto room = it++;
    if (room->second.peer != event.peer) continue;
    if (room->second.attempt == 0) {
      finish(room, FinishReason::kError, "the decoding instance is gone", true);
    } else {
      room->second.peer_gone = true;
      give_up(room->second);
    }
  }
}

void PrefillHandoff::abort(RequestId id) {
  const auto by_id = by_id_.find(id);
  if (by_id == by_id_.end()) return;
  const auto found = rooms_.find(by_id->second);
  if (found->second.attempt == 0) return finish(found, FinishReason::kAbort);
  found->second.client_left = true;
  give_up(found->second);
}

void PrefillHandoff::abort_all() {
  std::vector<RequestId> ids;
  for (const auto& [id, number] : by_id_) ids.push_back(id);
  for (RequestId id : ids) abort(id);
}

void PrefillHandoff::advance(int64_t now_us) {
  for (const Departure& departure : scheduler_.take_departures()) depart(departure);
  for (auto it = early_.begin(); it != early_.end();) {
    const auto entry = it++;
    if (now_us - entry->second.since_us < options_.lease_us) continue;
    refuse(entry->second.peer, entry->second.grant, true, "the request did not reach the prefilling instance");
    early_.erase(entry);
  }
  for (auto it = rooms_.begin(); it != rooms_.end();) {
    const auto room = it++;
    if (room->second.attempt != 0 || room->second.is_done) continue;
    if (now_us - room->second.since_us < options_.grant_wait_us) continue;
    finish(room, FinishReason::kError, "no decoding instance has granted memory", true);
  }
}

// The client hears the end, and the room is free.
void PrefillHandoff::finish(Rooms::iterator room, FinishReason reason, const std::string& why, bool may_retry) {
  Output output;
  output.id = room->second.id;
  output.finish = reason;
  output.error = why;
  output.may_retry = may_retry;
  by_id_.erase(output.id);
  rooms_.erase(room);
  add(std::move(output));
}

void PrefillHandoff::close() { port_.reset(); }

}  // namespace hylas
