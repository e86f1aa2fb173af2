#include "engine/cluster.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/byte_io.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

namespace hylas {
namespace {

// Of the messages below, beside plans and reports.
constexpr uint32_t kProtocolVersion = 1;
constexpr int64_t kBeatUs = 500'000;
constexpr int64_t kSilenceUs = 3'000'000;
constexpr int64_t kProgressUs = 10'000'000;

}  // namespace

enum Cluster::Type : uint8_t {
  kHeartbeat,  // node 0's clock; comes back with the other's
  kCapacity,   // to node 0, and back with the least
  kReady,      // to node 0
  kPlan,       // from node 0
  kReport,     // to node 0
  kEnd,        // from node 0: no more plans
  kDone,       // to node 0
  kBye,        // from node 0: all are done
  kLoss,       // to all: a node is lost, or gave up
};

Result<std::unique_ptr<Cluster>> Cluster::join(const ClusterOptions& options) {
  auto cluster = std::unique_ptr<Cluster>(new Cluster(options));
  Cluster* self = cluster.get();
  HYLAS_ASSIGN(cluster->fabric_, UcxFabric::make({}, options.node, [self](int32_t node, const std::string& why) {
                 if (!self->quiet_) self->lose(node, why);
               }));
  RendezvousOptions rendezvous;
  rendezvous.address = options.address;
  rendezvous.node = options.node;
  rendezvous.nodes = options.sizes.nodes;
  rendezvous.wait_us_max = options.wait_us_max;
  rendezvous.version = kProtocolVersion << 16 | kPlanCodecVersion;
  rendezvous.settings = options.settings;
  rendezvous.note = cluster->fabric_->address();
  HYLAS_ASSIGN(Meeting meeting, meet(rendezvous));
  const Status connected = cluster->connect(std::move(meeting));
  if (!connected.ok()) {
    cluster->give_up(connected.error());
    return connected.error();
  }
  log::info("all {} nodes are here", options.sizes.nodes);
  return cluster;
}

Status Cluster::connect(Meeting meeting) {
  for (auto& link : meeting.links) {
    peers_.push_back(link ? std::make_unique<Peer>() : nullptr);
    if (link) peers_.back()->link = std::move(link);
  }
  for (int32_t node = 0; node < options_.sizes.nodes; ++node) {
    if (node != options_.node) HYLAS_TRY(fabric_->connect(node, meeting.notes[node]));
  }
  for (int32_t node = 0; node < options_.sizes.nodes; ++node) {
    if (peers_[node]) peers_[node]->reader = start_thread(fmt::format("node {}", node), [this, node] { read(node); });
  }
  if (!leads()) return {};
  heart_ = std::jthread([this](std::stop_token stop) {
    set_thread_name("heartbeat");
    beat(stop);
  });
  return {};
}

// Connections end in order, with all that came read: otherwise TCP would throw away what was sent last.
Cluster::~Cluster() {
  if (!closed_) give_up(error(ErrorCode::kUnavailable, "it ended before the instance had started"));
  heart_ = {};
  for (auto& peer : peers_) {
    if (peer) peer->link->end_sending();
  }
  peers_.clear();
}

void Cluster::beat(std::stop_token stop) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any tick;
  const auto stopping = [&] { return stop.stop_requested(); };
  while (!tick.wait_for(lock, stop, std::chrono::microseconds(kBeatUs), stopping)) {
    ByteWriter out;
    out(now_us());
    send_to_all(kHeartbeat, out.bytes());
  }
}

void Cluster::read(int32_t node) {
  while (true) {
    Result<Frame> frame = peers_[node]->link->recv(kSilenceUs);
    if (!frame.ok() && closed_) return;
    if (!frame.ok()) lose(node, frame.error().message);
    if (!closed_) handle(node, *frame);
  }
}

void Cluster::handle(int32_t node, Frame& frame) {
  Peer& peer = *peers_[node];
  if (frame.type == kHeartbeat) return handle_heartbeat(node, frame.bytes);
  if (frame.type == kLoss) return handle_loss(frame.bytes);
  if (frame.type == kPlan && started_) {
    Result<StepPlan> plan = decode_plan(frame.bytes);
    if (!plan.ok()) lose(node, plan.error().message);
    return on_plan_(*std::move(plan));
  }
  if (frame.type == kReport && started_) {
    Result<RankReport> report = decode_report(frame.bytes, options_.sizes);
    if (!report.ok()) lose(node, report.error().message);
    report->result.begin_us -= peer.clock_ahead_us;
    report->result.end_us -= peer.clock_ahead_us;
    return on_report_(*std::move(report));
  }
  std::lock_guard lock(mutex_);
  ByteReader in(frame.bytes);
  switch (frame.type) {
    case kCapacity:
      in(peer.capacity.pages, peer.capacity.slots);
      peer.has_capacity = true;
      break;
    case kReady:
      peer.ready = true;
      break;
    case kEnd:
      end_announced_ = true;
      break;
    case kDone:
      peer.done = true;
      break;
    case kBye:
      parted_ = closed_ = true;
      break;
    default:
      in.expect(false);
  }
  if (!in.complete()) lose(node, fmt::format("it sent a message of type {} that makes no sense", frame.type));
  changed_.notify_all();
}

// Half of the round trip is the way back: so much older is the clock that came with it.
void Cluster::handle_heartbeat(int32_t node, const std::string& bytes) {
  Peer& peer = *peers_[node];
  int64_t sent_us = 0, its_us = 0;
  ByteReader in(bytes);
  if (!leads()) {
    in(sent_us);
    ByteWriter out;
    out(sent_us, now_us());
    return send(node, kHeartbeat, out.bytes());
  }
  in(sent_us, its_us);
  const int64_t round_trip_us = now_us() - sent_us;
  if (!in.complete() || round_trip_us > peer.round_trip_us * 2) return;
  peer.round_trip_us = std::min(peer.round_trip_us, round_trip_us);
  peer.clock_ahead_us = its_us - (sent_us + round_trip_us / 2);
}

// Another node has seen the end first. Node 0 tells the rest.
void Cluster::handle_loss(const std::string& bytes) {
  std::string line;
  ByteReader in(bytes);
  in(line);
  end_process(line);
}

void Cluster::lose(int32_t node, const std::string& why) {
  const std::string line =
      fmt::format("node {} is lost: {}; this ends the instance, start all its nodes again", name_of(node), why);
  end_process(line);
}

void Cluster::quit(const std::string& why) { end_process(fmt::format("node {} gave up: {}", options_.node, why)); }

void Cluster::give_up(const Error& why) {
  closed_ = quiet_ = true;
  ByteWriter out;
  out(fmt::format("node {} gave up: {}", options_.node, why.message));
  for (auto& peer : peers_) {
    if (peer) peer->link->try_send(kLoss, out.bytes());
  }
}

void Cluster::end_process(const std::string& line) {
  if (ending_.exchange(true)) {
    while (true) pause();  // another thread does
  }
  ByteWriter out;
  out(line);
  for (auto& peer : peers_) {
    if (peer && peer->link->try_send(kLoss, out.bytes())) peer->link->end_sending();
  }
  fmt::print(stderr, "hylas: {}\n", line);
  std::fflush(stderr);
  usleep(100'000);  // they read it before the connection is reset
  _exit(1);
}

std::string Cluster::name_of(int32_t node) const {
  return node < std::ssize(peers_) && peers_[node] ? fmt::format("{} ({})", node, peers_[node]->link->peer())
                                                   : std::to_string(node);
}

void Cluster::send(int32_t node, uint8_t type, std::string_view bytes) {
  const Status sent = peers_[node]->link->send(type, bytes);
  if (!sent.ok() && !closed_) lose(node, sent.error().message);
}

void Cluster::send_to_all(uint8_t type, std::string_view bytes) {
  for (size_t node = 0; node < peers_.size(); ++node) {
    if (peers_[node]) send(static_cast<int32_t>(node), type, bytes);
  }
}

template <class Holds>
void Cluster::wait_for_peers(const char* what, Holds holds) {
  std::unique_lock lock(mutex_);
  while (true) {
    std::string names;
    for (size_t node = 0; node < peers_.size(); ++node) {
      if (peers_[node] && !holds(*peers_[node])) names += fmt::format("{}{}", names.empty() ? "" : ", ", node);
    }
    if (names.empty()) return;
    if (changed_.wait_for(lock, std::chrono::microseconds(kProgressUs)) == std::cv_status::timeout) {
      log::info("waiting for node {} to {}", names, what);
    }
  }
}

Capacity Cluster::agree(Capacity own) {
  const auto bytes_of = [](const Capacity& capacity) {
    ByteWriter out;
    out(capacity.pages, capacity.slots);
    return out.take();
  };
  if (!leads()) send(0, kCapacity, bytes_of(own));
  wait_for_peers("load its weights", [](const Peer& peer) { return peer.has_capacity; });
  if (!leads()) return peers_[0]->capacity;
  for (auto& peer : peers_) {
    if (!peer) continue;
    own.pages = std::min(own.pages, peer->capacity.pages);
    own.slots = std::min(own.slots, peer->capacity.slots);
  }
  send_to_all(kCapacity, bytes_of(own));
  return own;
}

void Cluster::lead(OnReport on_report) {
  on_report_ = std::move(on_report);
  started_ = true;
  wait_for_peers("be ready", [](const Peer& peer) { return peer.ready; });
}

void Cluster::follow(OnPlan on_plan) {
  on_plan_ = std::move(on_plan);
  started_ = true;
  send(0, kReady);
}

void Cluster::send_plan(const StepPlan& plan) { send_to_all(kPlan, encode(plan)); }

void Cluster::send_report(const RankReport& report) { send(0, kReport, encode(report)); }

void Cluster::announce_end() { send_to_all(kEnd); }

bool Cluster::end_announced(int64_t wait_us) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::microseconds(wait_us), [this] { return end_announced_; });
}

void Cluster::part() {
  if (leads()) {
    wait_for_peers("finish its steps", [](const Peer& peer) { return peer.done; });
    quiet_ = closed_ = true;
    send_to_all(kBye);
  } else {
    quiet_ = true;
    send(0, kDone);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return parted_; });
  }
  fabric_.reset();
}

}  // namespace hylas
