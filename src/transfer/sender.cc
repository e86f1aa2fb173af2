#include "transfer/sender.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hylas {
namespace {

// No peer of a link has it: a put to it fails on the link's thread.
constexpr int32_t kNobody = -1;

bool all_below(const std::vector<int32_t>& ids, int64_t count) {
  return std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < count; });
}

// A part of which ids are out of range would be written over other sequences: the peer's half comes from the peer.
Status check(const TransferPart& part, const InstanceLayout& from, const InstanceLayout& to) {
  if (part.from_pages.size() == part.to_pages.size() && (part.from_slot < 0) == (part.to_slot < 0) &&
      all_below(part.from_pages, from.pages) && all_below(part.to_pages, to.pages) && part.from_slot < from.slots &&
      part.to_slot < to.slots) {
    return {};
  }
  return error(ErrorCode::kInvalid, "{} pages to {}, slot {} to {}: not ids of {} and {} pages, {} and {} slots",
               part.from_pages.size(), part.to_pages.size(), part.from_slot, part.to_slot, from.pages, to.pages,
               from.slots, to.slots);
}

}  // namespace

Sender::Sender(InstanceLayout layout, std::vector<const void*> memory, Link& link, OnSent on_sent,
               std::vector<std::unique_ptr<Stager>> stagers)
    : layout_(std::move(layout)),
      memory_(std::move(memory)),
      link_(link),
      on_sent_(std::move(on_sent)),
      stagers_(std::move(stagers)) {
  HYLAS_CHECK(stagers_.empty() || stagers_.size() == memory_.size(), "{} stagers", stagers_.size());
  HYLAS_CHECK(layout_.ranks.size() == memory_.size(), "{} ranks, {} pools", layout_.ranks.size(), memory_.size());
}

Sender::~Sender() {
  while (true) {
    int32_t peer = 0;
    {
      std::unique_lock lock(mutex_);
      if (peers_.empty()) {
        reported_.wait(lock, [&] { return under_way_ == 0; });
        return;
      }
      peer = peers_.begin()->first;
    }
    remove_peer(peer, "this instance ends");
  }
}

void Sender::add_peer(int32_t peer, InstanceLayout layout, int32_t link_peer) {
  std::lock_guard lock(mutex_);
  const bool added = peers_.emplace(peer, Peer{std::move(layout), link_peer, {}}).second;
  HYLAS_CHECK(added, "peer {} twice", peer);
}

void Sender::remove_peer(int32_t peer, const std::string& why) {
  int32_t link_peer = kNobody;
  {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return;
    link_peer = found->second.link_peer;
    peers_.erase(found);
  }
  link_.disconnect(link_peer, why);
}

const TransferPlan& Sender::plan_of(Peer& peer, int32_t rank, int32_t group) {
  const auto [found, fresh] = peer.plans.try_emplace({rank, group});
  if (fresh) found->second = transfer_plan(layout_, rank, peer.layout, group);
  return found->second;
}

Result<Sender::Prepared> Sender::prepare(int32_t rank, const SendOp& op) {
  std::lock_guard lock(mutex_);
  ++under_way_;
  const auto found = peers_.find(op.peer);
  if (found == peers_.end()) return error(ErrorCode::kIo, "decoding instance {} is gone", op.peer);
  Peer& peer = found->second;
  if (op.to_group < 0 || op.to_group >= peer.layout.sizes.dp) {
    return error(ErrorCode::kInvalid, "dp group {} of a decoding instance that has {}", op.to_group,
                 peer.layout.sizes.dp);
  }
  HYLAS_TRY(check(op.part, layout_, peer.layout));
  Prepared prepared{.link_peer = peer.link_peer};
  if (place_of(layout_.sizes, rank).dp_group == op.group) {
    prepared.writes = writes_of(plan_of(peer, rank, op.to_group), op.part, memory_[rank]);
  }
  return prepared;
}

void Sender::report(SentReport report) {
  on_sent_(std::move(report));
  std::lock_guard lock(mutex_);
  if (--under_way_ == 0) reported_.notify_all();
}

void Sender::send(int32_t rank, const SendOp& op) {
  Result<Prepared> prepared = prepare(rank, op);
  if (prepared.ok()) {
    Link::OnDone done = [this, transfer = op.transfer, rank](PutResult result) {
      report({transfer, rank, std::move(result)});
    };
    if (stagers_.empty()) return link_.put(prepared->link_peer, std::move(prepared->writes), std::move(done));
    return stagers_[rank]->put(prepared->link_peer, std::move(prepared->writes), std::move(done));
  }
  link_.put(kNobody, {}, [this, transfer = op.transfer, rank, why = prepared.error()](const PutResult&) {
    report({transfer, rank, {.status = why}});
  });
}

}  // namespace hylas
