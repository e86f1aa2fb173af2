#include "transfer/prefill_port.h"

#include <algorithm>
#include <atomic>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "comm/tcp_link.h"
#include "transfer/control_link.h"
#include "transfer/outbox.h"
#include "transfer/quiet_log.h"

namespace hylas {
namespace {

constexpr int64_t kTickUs = 100'000;
constexpr int64_t kTalkUs = 3'000'000;      // for an answer that is due
constexpr int64_t kStrangerUs = 5'000'000;  // to prove that one is no stranger, all in all
constexpr int64_t kStrangersMax = 64;       // at a time; the eldest goes when one more comes

// What is wrong with a grant of a peer with `layout`: where it lets this side write must be memory of its own.
Status check_grant(const Grant& grant, const InstanceLayout& layout) {
  const int64_t tokens = grant.prompt_tokens, pages = std::ssize(grant.pages);
  if (tokens <= 0 || pages != (tokens + layout.page_size - 1) / layout.page_size) {
    return error(ErrorCode::kInvalid, "the grant has {} pages of {} for {} tokens", pages, layout.page_size, tokens);
  }
  for (const int32_t page : grant.pages) {
    if (page < 0 || page >= layout.pages) {
      return error(ErrorCode::kInvalid, "the grant names page {} of {}", page, layout.pages);
    }
  }
  if (grant.slot < -1 || grant.slot >= layout.slots) {
    return error(ErrorCode::kInvalid, "the grant names slot {} of {}", grant.slot, layout.slots);
  }
  if (grant.group < 0 || grant.group >= layout.sizes.dp) {
    return error(ErrorCode::kInvalid, "the grant names dp group {} of {}", grant.group, layout.sizes.dp);
  }
  return {};
}

// A connection. Its thread serves it; the accepting thread makes it and takes it away.
struct Guest {
  Guest(std::unique_ptr<TcpLink> tcp, std::string secret)
      : link(std::move(tcp), ControlSide::kPrefill, std::move(secret)) {}

  const int64_t came_us = now_us();
  ControlLink link;
  Outbox outbox;
  InstanceLayout layout;
  std::atomic<bool> is_stranger = true;  // has not proved that it knows the secret
  std::atomic<bool> finished = false;    // the thread is about to end
  std::jthread thread;
};

class TcpPrefillPort final : public PrefillPort {
 public:
  TcpPrefillPort(const PrefillPortOptions& options, TcpListener listener, Link& link, Sender& sender, OnEvent on_event)
      : options_(options),
        listener_(std::move(listener)),
        link_(link),
        sender_(sender),
        on_event_(std::move(on_event)),
        acceptor_(start_thread("pd accept", [this] { accept_guests(); })) {}

  // As always, the ranks stop writing to a peer before its connection ends: then it may use the memory again.
  ~TcpPrefillPort() override {
    stopping_ = true;
    acceptor_.join();
    for (const int32_t peer : known_peers()) remove_peer(peer, error(ErrorCode::kUnavailable, "this instance stops"));
    for (Guest& guest : guests_) guest.link.stop();
    guests_.clear();
  }

  uint16_t port() const override { return listener_.port(); }

  int32_t peers() const override {
    std::lock_guard lock(mutex_);
    return static_cast<int32_t>(std::count_if(peers_.begin(), peers_.end(), [&](const auto& peer) {
      return now_us() - peer.second->link.heard_us() <= options_.silence_us;
    }));
  }

  void send(int32_t peer, const ControlMessage& message) override {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found != peers_.end()) found->second->outbox.push(encode(message));
  }

  void disconnect(int32_t peer) override {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found != peers_.end()) found->second->link.stop();
  }

 private:
  void accept_guests();
  void dismiss_strangers();
  void serve(Guest& guest);
  Result<Hello> hear_hello(Guest& guest);
  Status check_hello(const Hello& hello, Guest& guest);
  Result<int32_t> add_peer(Guest& guest, const std::string& its_link);
  void remove_peer(int32_t peer, const Error& why);
  std::vector<int32_t> known_peers() const;
  Error listen_to(int32_t peer, Guest& guest);
  Status take(int32_t peer, Guest& guest, const std::string& bytes);

  void emit(Event event) {
    if (!stopping_) on_event_(std::move(event));
  }

  const PrefillPortOptions options_;
  TcpListener listener_;
  Link& link_;
  Sender& sender_;
  const OnEvent on_event_;
  QuietLog refusals_;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mutex_;
  std::map<int32_t, Guest*> peers_;  // guarded by mutex_: those that were welcomed and are not gone
  int32_t next_peer_ = 0;            // guarded by mutex_
  std::list<Guest> guests_;          // the accepting thread's
  std::jthread acceptor_;
};

void TcpPrefillPort::accept_guests() {
  while (!stopping_) {
    if (auto tcp = listener_.accept(kTickUs)) {
      Guest& guest = guests_.emplace_back(std::move(tcp), options_.secret);
      guest.thread = start_thread("pd prefill", [this, &guest] {
        serve(guest);
        guest.finished = true;
      });
    }
    dismiss_strangers();
    guests_.remove_if([](const Guest& guest) { return guest.finished.load(); });
  }
}

// Those who take too long, whatever they do, and the eldest of too many. Their threads see the end of the connection.
void TcpPrefillPort::dismiss_strangers() {
  int64_t too_many = -kStrangersMax;
  for (const Guest& guest : guests_) too_many += guest.is_stranger;
  for (Guest& guest : guests_) {
    if (!guest.is_stranger) continue;
    if (too_many-- > 0 || now_us() - guest.came_us > kStrangerUs) guest.link.stop();
  }
}

void TcpPrefillPort::serve(Guest& guest) {
  Status met = guest.link.shake_hands(kTalkUs);
  guest.is_stranger = !met.ok();
  if (met.ok()) {
    Result<Hello> hello = hear_hello(guest);
    Result<int32_t> peer = hello.ok() ? add_peer(guest, hello->link) : Result<int32_t>(hello.error());
    if (peer.ok()) {
      log::info("decode instance {} is here: peer {}", guest.link.peer(), *peer);
      remove_peer(*peer, listen_to(*peer, guest));
      return guest.link.stop();
    }
    met = peer.error();
  }
  if (!stopping_) {
    refusals_.warn(fmt::format("a connection from {} to the bootstrap port {} is refused: {}", guest.link.peer(),
                               port(), met.error().message));
  }
  guest.link.stop();
}

Result<Hello> TcpPrefillPort::hear_hello(Guest& guest) {
  const int64_t due_us = now_us() + kTalkUs;
  std::optional<std::string> bytes;
  while (!bytes) {
    if (now_us() > due_us) return error(ErrorCode::kIo, "it does not say who it is");
    HYLAS_ASSIGN(bytes, guest.link.recv(kTalkUs));
  }
  HYLAS_ASSIGN(const ControlMessage message, decode_message(*bytes));
  const auto* hello = std::get_if<Hello>(&message);
  if (!hello) return error(ErrorCode::kIo, "it does not say who it is first");
  const Status fits = check_hello(*hello, guest);
  if (!fits.ok()) {
    HYLAS_TRY(guest.link.send(encode(Refusal{fits.error().message})));
    return fits.error();
  }
  return *hello;
}

Status TcpPrefillPort::check_hello(const Hello& hello, Guest& guest) {
  if (hello.version != kControlVersion) {
    return error(
        ErrorCode::kUnsupported,
        "the decode instance speaks version {} and the prefill instance version {}: run the same hylas on both",
        hello.version, kControlVersion);
  }
  HYLAS_ASSIGN(guest.layout, decode_instance_layout(hello.layout));
  return check_pair(options_.layout, guest.layout);
}

// A peer whose memory cannot be reached gets no Refusal: another prefilling instance may reach it.
Result<int32_t> TcpPrefillPort::add_peer(Guest& guest, const std::string& its_link) {
  HYLAS_ASSIGN(const int32_t link_peer, link_.connect(its_link));
  std::unique_lock lock(mutex_);
  const int32_t peer = next_peer_++;
  lock.unlock();
  sender_.add_peer(peer, guest.layout, link_peer);
  guest.outbox.push(encode(Welcome{encode(options_.layout)}));
  guest.outbox.start(guest.link);
  lock.lock();
  peers_[peer] = &guest;
  return peer;
}

void TcpPrefillPort::remove_peer(int32_t peer, const Error& why) {
  {
    std::lock_guard lock(mutex_);
    if (peers_.erase(peer) == 0) return;
  }
  sender_.remove_peer(peer, why.message);
  if (stopping_) return;
  log::warn("decode peer {} is gone: {}", peer, why.message);
  emit(PeerGone{peer, why.message});
}

std::vector<int32_t> TcpPrefillPort::known_peers() const {
  std::lock_guard lock(mutex_);
  std::vector<int32_t> ids;
  for (const auto& [id, guest] : peers_) ids.push_back(id);
  return ids;
}

Error TcpPrefillPort::listen_to(int32_t peer, Guest& guest) {
  bool silent = false;
  const auto on_wait = [&](int64_t silence_us) {
    if (silent == (silence_us > options_.silence_us)) return;
    silent = !silent;
    log::warn("decode peer {} ({}) {}", peer, guest.link.peer(), silent ? "is silent" : "is back");
  };
  return listen(guest.link, [&](const std::string& bytes) { return take(peer, guest, bytes); }, on_wait);
}

Status TcpPrefillPort::take(int32_t peer, Guest& guest, const std::string& bytes) {
  HYLAS_ASSIGN(ControlMessage message, decode_message(bytes));
  if (auto* grant = std::get_if<Grant>(&message)) {
    const Status fits = check_grant(*grant, guest.layout);
    if (fits.ok()) {
      emit(Granted{peer, std::move(*grant)});
    } else {
      log::warn("peer {}: {}", peer, fits.error().message);
      guest.outbox.push(encode(Failed{grant->room, grant->epoch, false, fits.error().message}));
    }
  } else if (const auto* abort = std::get_if<Abort>(&message)) {
    emit(AbortWanted{peer, *abort});
  } else if (const auto* received = std::get_if<Received>(&message)) {
    emit(WasReceived{peer, *received});
  } else {
    return error(ErrorCode::kIo, "it sent message {}, which no decode instance sends here", message.index());
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<PrefillPort>> PrefillPort::open(const PrefillPortOptions& options, Link& link, Sender& sender,
                                                       OnEvent on_event) {
  HYLAS_ASSIGN(TcpListener listener, TcpListener::listen(options.address));
  std::unique_ptr<PrefillPort> port =
      std::make_unique<TcpPrefillPort>(options, std::move(listener), link, sender, std::move(on_event));
  return port;
}

}  // namespace hylas
