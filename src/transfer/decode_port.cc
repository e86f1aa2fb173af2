#include "transfer/decode_port.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/thread.h"
#include "comm/tcp_link.h"
#include "transfer/control_link.h"
#include "transfer/landing.h"
#include "transfer/outbox.h"

namespace hylas {
namespace {

constexpr int64_t kTickUs = 100'000;
constexpr int64_t kAttemptUs = 1'000'000;  // of one try to connect
constexpr int64_t kGraceUs = 500'000;      // a peer that answers bit by bit is cut off so long after its time
constexpr size_t kTasksMax = size_t{1} << 20;

// A connection to a prefilling instance. Its thread makes it, listens, and gives it up.
struct Prefill {
  explicit Prefill(HostPort at) : address(std::move(at)) {}

  const HostPort address;
  std::unique_ptr<ControlLink> link;        // made by its thread, under the port's mutex
  Outbox outbox;                            // grants wait there for the connection
  std::unique_ptr<Landing> landing;         // made before the first message is heard; then the checking thread's
  std::string invitation;                   // to write here; its thread's until the prefill is lost
  std::atomic<int64_t> due_us = INT64_MAX;  // by then it has welcomed us
  bool lost = false;                        // guarded by the port's mutex
  std::atomic<bool> finished = false;       // the thread is about to end
  std::jthread thread;
};

// Why a connection ended, and whether another instance may do better.
struct Loss {
  Error why;
  bool may_retry = true;
};

class TcpDecodePort final : public DecodePort {
 public:
  TcpDecodePort(DecodePortOptions options, OnEvent on_event)
      : options_(std::move(options)),
        on_event_(std::move(on_event)),
        tasks_(kTasksMax),
        checker_(start_thread("pd check", [this] { run_tasks(); })) {}

  ~TcpDecodePort() override;

  void grant(const HostPort& prefill, const Grant& grant) override;
  void abort(uint64_t epoch) override;
  void received(uint64_t epoch) override;

 private:
  enum class Stage { kWaiting, kChecking, kLanded, kLingering };
  struct Epoch {
    std::shared_ptr<Prefill> prefill;
    Grant grant;
    Stage stage = Stage::kWaiting;
    bool was_stalled = false;
    std::string why;  // kLingering: until nothing is written by the invitation any more
  };

  std::shared_ptr<Prefill> prefill_at(const HostPort& address);
  void serve(Prefill& prefill);
  Loss talk(Prefill& prefill);
  Result<std::unique_ptr<TcpLink>> connect(Prefill& prefill);
  Result<ControlMessage> greet(Prefill& prefill);
  Status make_landing(Prefill& prefill, const Welcome& welcome);
  void lose(Prefill& prefill, const Loss& loss);

  Status take(Prefill& prefill, const std::string& bytes);
  bool end_waiting(const Prefill& prefill, uint64_t room, uint64_t epoch);
  void check_landed(const Prefill& prefill, Done done);
  void finish_check(uint64_t epoch, std::string first, Status status);
  void stall(const Prefill& prefill, int64_t silence_us);

  void run_tasks();
  void take_back();
  void tend();

  void emit(Event event) {
    if (!stopping_) on_event_(std::move(event));
  }

  const DecodePortOptions options_;
  const OnEvent on_event_;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::map<uint64_t, Epoch> epochs_;                          // guarded by mutex_
  std::map<std::string, std::shared_ptr<Prefill>> prefills_;  // guarded by mutex_: by address
  std::vector<std::shared_ptr<Prefill>> lost_;                // guarded by mutex_: until their threads have ended
  Queue<std::function<void()>> tasks_;                        // of checker_
  std::jthread checker_;
};

TcpDecodePort::~TcpDecodePort() {
  std::vector<std::shared_ptr<Prefill>> all;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [address, prefill] : prefills_) all.push_back(prefill);
    all.insert(all.end(), lost_.begin(), lost_.end());
    for (const auto& prefill : all) {
      if (prefill->link) prefill->link->stop();
    }
  }
  for (const auto& prefill : all) prefill->thread.join();
  tasks_.close();
  checker_.join();
}

void TcpDecodePort::grant(const HostPort& prefill, const Grant& grant) {
  std::lock_guard lock(mutex_);
  HYLAS_CHECK(!epochs_.contains(grant.epoch), "epoch {} is granted twice", grant.epoch);
  std::erase_if(epochs_, [&](const auto& epoch) {
    return epoch.second.stage == Stage::kLanded && epoch.second.grant.room == grant.room;
  });
  std::shared_ptr<Prefill> its = prefill_at(prefill);
  its->outbox.push(encode(grant));  // if nothing reaches the peer, its thread is about to close the epoch
  epochs_[grant.epoch] = {.prefill = std::move(its), .grant = grant};
}

void TcpDecodePort::abort(uint64_t epoch) {
  std::lock_guard lock(mutex_);
  const auto found = epochs_.find(epoch);
  if (found == epochs_.end()) return;
  found->second.prefill->outbox.push(encode(Abort{found->second.grant.room, epoch}));
  if (found->second.stage == Stage::kLanded) epochs_.erase(found);
}

void TcpDecodePort::received(uint64_t epoch) {
  std::lock_guard lock(mutex_);
  const auto found = epochs_.find(epoch);
  if (found == epochs_.end() || found->second.stage != Stage::kLanded) return;
  found->second.prefill->outbox.push(encode(Received{found->second.grant.room, epoch}));
  epochs_.erase(found);
}

// The connection there is, or a new one. Holds mutex_.
std::shared_ptr<Prefill> TcpDecodePort::prefill_at(const HostPort& address) {
  std::shared_ptr<Prefill>& known = prefills_[to_string(address)];
  if (!known) {
    known = std::make_shared<Prefill>(address);
    known->due_us = now_us() + options_.connect_us;
    known->thread = start_thread("pd decode", [this, &prefill = *known] {
      serve(prefill);
      prefill.finished = true;
    });
  }
  return known;
}

void TcpDecodePort::serve(Prefill& prefill) {
  const Loss loss = talk(prefill);
  if (!stopping_) log::warn("prefill instance {}: {}", to_string(prefill.address), loss.why.message);
  lose(prefill, loss);
}

Loss TcpDecodePort::talk(Prefill& prefill) {
  auto tcp = connect(prefill);
  if (!tcp.ok()) return {tcp.error()};
  {
    std::lock_guard lock(mutex_);
    prefill.link = std::make_unique<ControlLink>(std::move(*tcp), ControlSide::kDecode, options_.secret);
    if (stopping_) prefill.link->stop();
  }
  const auto answer = greet(prefill);
  if (!answer.ok()) return {answer.error()};
  if (const auto* refusal = std::get_if<Refusal>(&*answer)) {
    return {error(ErrorCode::kUnsupported, "it refuses: {}", refusal->why), false};
  }
  const auto* welcome = std::get_if<Welcome>(&*answer);
  if (!welcome) return {error(ErrorCode::kIo, "it answers message {} to a Hello", answer->index())};
  const Status fits = make_landing(prefill, *welcome);
  if (!fits.ok()) return {fits.error(), false};
  prefill.due_us = INT64_MAX;
  log::info("prefill instance {} is connected", to_string(prefill.address));
  prefill.outbox.start(*prefill.link);
  return {listen(
      *prefill.link, [&](const std::string& bytes) { return take(prefill, bytes); },
      [&](int64_t silence_us) {
        if (silence_us > options_.silence_us) stall(prefill, silence_us);
      })};
}

// In several tries, so that nobody waits long for one when the port is destroyed.
Result<std::unique_ptr<TcpLink>> TcpDecodePort::connect(Prefill& prefill) {
  while (true) {
    const int64_t begin_us = now_us(), wait_us = std::min(kAttemptUs, prefill.due_us - begin_us);
    auto tcp = TcpLink::connect(prefill.address, std::max<int64_t>(wait_us, 0));
    const bool timed_out = now_us() - begin_us >= wait_us;
    if (tcp.ok() || !timed_out || now_us() >= prefill.due_us) return tcp;
    if (stopping_) return error(ErrorCode::kUnavailable, "this instance stops");
  }
}

// Welcome or Refusal, if the peer is what it should be.
Result<ControlMessage> TcpDecodePort::greet(Prefill& prefill) {
  const auto left_us = [&] { return std::max<int64_t>(prefill.due_us - now_us(), 0); };
  HYLAS_TRY(prefill.link->shake_hands(left_us()));
  HYLAS_ASSIGN(prefill.invitation, options_.link->invite());
  HYLAS_TRY(prefill.link->send(encode(Hello{kControlVersion, encode(options_.layout), prefill.invitation})));
  while (left_us() > 0) {
    HYLAS_ASSIGN(const auto bytes, prefill.link->recv(left_us()));
    if (bytes) return decode_message(*bytes);
  }
  return error(ErrorCode::kIo, "it did not answer within {} s", static_cast<double>(options_.connect_us) * 1e-6);
}

Status TcpDecodePort::make_landing(Prefill& prefill, const Welcome& welcome) {
  HYLAS_ASSIGN(InstanceLayout its, decode_instance_layout(welcome.layout));
  HYLAS_TRY(check_pair(its, options_.layout));
  prefill.landing = std::make_unique<Landing>(std::move(its), options_.layout, options_.memory);
  return {};
}

// What is being checked has arrived: that goes on. Bytes of the rest may still be on their way here, unless nobody has
// been told yet where to write.
void TcpDecodePort::lose(Prefill& prefill, const Loss& loss) {
  const std::string why = fmt::format("prefill instance {}: {}", to_string(prefill.address), loss.why.message);
  const bool may_write = prefill.landing != nullptr;
  std::vector<uint64_t> closed, stalled;
  {
    std::lock_guard lock(mutex_);
    prefill.lost = true;
    if (prefill.link) prefill.link->stop();
    for (auto at = epochs_.begin(); at != epochs_.end();) {
      Epoch& epoch = at->second;
      const bool ends = epoch.prefill.get() == &prefill && epoch.stage != Stage::kChecking;
      const bool lingers = ends && may_write && epoch.stage == Stage::kWaiting;
      if (lingers) {
        epoch.stage = Stage::kLingering;
        epoch.why = why;
        if (!epoch.was_stalled) stalled.push_back(at->first);
      } else if (ends && epoch.stage == Stage::kWaiting) {
        closed.push_back(at->first);
      }
      at = ends && !lingers ? epochs_.erase(at) : std::next(at);
    }
    const auto known = prefills_.find(to_string(prefill.address));
    lost_.push_back(std::move(known->second));
    prefills_.erase(known);
  }
  for (const uint64_t epoch : stalled) emit(Stalled{epoch, why});
  for (const uint64_t epoch : closed) emit(Closed{epoch, loss.may_retry, why});
}

Status TcpDecodePort::take(Prefill& prefill, const std::string& bytes) {
  HYLAS_ASSIGN(ControlMessage message, decode_message(bytes));
  if (auto* done = std::get_if<Done>(&message)) {
    check_landed(prefill, std::move(*done));
  } else if (const auto* failed = std::get_if<Failed>(&message)) {
    if (end_waiting(prefill, failed->room, failed->epoch)) emit(Closed{failed->epoch, failed->may_retry, failed->why});
  } else if (const auto* aborted = std::get_if<Aborted>(&message)) {
    if (end_waiting(prefill, aborted->room, aborted->epoch)) emit(Closed{aborted->epoch, true, "aborted"});
  } else {
    return error(ErrorCode::kIo, "it sent message {}, which no prefill instance sends here", message.index());
  }
  return {};
}

// Whether the peer owed an answer for this epoch; then it does no more.
bool TcpDecodePort::end_waiting(const Prefill& prefill, uint64_t room, uint64_t epoch) {
  std::lock_guard lock(mutex_);
  const auto found = epochs_.find(epoch);
  const bool owed = found != epochs_.end() && found->second.prefill.get() == &prefill &&
                    found->second.grant.room == room && found->second.stage == Stage::kWaiting;
  if (owed) {
    epochs_.erase(found);
  } else {
    log::info("prefill instance {}: a late answer for epoch {} of room {} is ignored", to_string(prefill.address),
              epoch, room);
  }
  return owed;
}

void TcpDecodePort::check_landed(const Prefill& prefill, Done done) {
  std::unique_lock lock(mutex_);
  const auto found = epochs_.find(done.epoch);
  if (found == epochs_.end() || found->second.prefill.get() != &prefill || found->second.grant.room != done.room ||
      found->second.stage != Stage::kWaiting) {
    log::info("prefill instance {}: a late answer for epoch {} of room {} is ignored", to_string(prefill.address),
              done.epoch, done.room);
    return;
  }
  found->second.stage = Stage::kChecking;
  tasks_.push([this, its = found->second.prefill, grant = found->second.grant, done = std::move(done)] {
    finish_check(done.epoch, done.first, its->landing->check(grant, done.sources));
  });
}

void TcpDecodePort::finish_check(uint64_t epoch, std::string first, Status status) {
  if (!status.ok()) log::warn("epoch {}: {}", epoch, status.error().message);
  {
    std::lock_guard lock(mutex_);
    const auto found = epochs_.find(epoch);
    found->second.stage = Stage::kLanded;
    if (found->second.prefill->lost) epochs_.erase(found);
  }
  emit(Landed{epoch, std::move(first), std::move(status)});
}

void TcpDecodePort::stall(const Prefill& prefill, int64_t silence_us) {
  std::vector<uint64_t> stalled;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, epoch] : epochs_) {
      if (epoch.prefill.get() != &prefill || epoch.stage != Stage::kWaiting || epoch.was_stalled) continue;
      epoch.was_stalled = true;
      stalled.push_back(id);
    }
  }
  const std::string why = fmt::format("prefill instance {}: no sign of life for {:.1f} s", to_string(prefill.address),
                                      static_cast<double>(silence_us) * 1e-6);
  for (const uint64_t epoch : stalled) emit(Stalled{epoch, why});
}

void TcpDecodePort::run_tasks() {
  while (!tasks_.drained()) {
    auto task = tasks_.pop_for(kTickUs);
    if (task && !stopping_) (*task)();
    tend();
  }
}

// Takes back what those who are lost may write, and closes their epochs when that is done.
void TcpDecodePort::take_back() {
  std::vector<std::shared_ptr<Prefill>> lost;
  {
    std::lock_guard lock(mutex_);
    lost = lost_;
  }
  std::vector<Closed> closed;
  for (const auto& prefill : lost) {
    const bool is_over = prefill->invitation.empty() || options_.link->revoke(prefill->invitation);
    if (!is_over) continue;
    std::lock_guard lock(mutex_);
    std::erase_if(epochs_, [&](const auto& entry) {
      const Epoch& epoch = entry.second;
      if (epoch.prefill != prefill || epoch.stage != Stage::kLingering) return false;
      closed.push_back({entry.first, true, epoch.why});
      return true;
    });
    if (prefill->finished) std::erase(lost_, prefill);
  }
  for (Closed& one : closed) emit(std::move(one));
}

// Ends connections that are overdue, and clears away those whose threads have ended.
void TcpDecodePort::tend() {
  {
    std::lock_guard lock(mutex_);
    for (const auto& [address, prefill] : prefills_) {
      if (prefill->link && now_us() - kGraceUs > prefill->due_us) prefill->link->stop();
    }
  }
  take_back();
}

}  // namespace

std::unique_ptr<DecodePort> DecodePort::make(DecodePortOptions options, OnEvent on_event) {
  return std::make_unique<TcpDecodePort>(std::move(options), std::move(on_event));
}

}  // namespace hylas
