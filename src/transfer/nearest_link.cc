// The link of an instance: shared memory to peers on this node, UCX to the others.
#include <algorithm>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/byte_io.h"
#include "base/log.h"
#include "transfer/link.h"

namespace hylas {
namespace {

constexpr uint64_t kMagic = 0x7261656e'6c796861;
constexpr std::string_view kShmNames[] = {"shm", "sm", "mm", "posix", "sysv"};

struct Invitation {
  std::string shm, ucx;  // shm: empty where no memory is shared
};
template <class Io>
void fields(Io& io, Like<Invitation> auto& v) {
  io(v.shm, v.ucx);
}

uint64_t sum_of(const Invitation& invitation) { return checksum(invitation.shm) * 31 + checksum(invitation.ucx); }

Result<Invitation> decode_invitation(std::string_view bytes) {
  uint64_t magic = 0, sum = 0;
  Invitation invitation;
  ByteReader in(bytes);
  in(magic, invitation, sum);
  if (in.complete() && magic == kMagic && sum == sum_of(invitation)) return invitation;
  return error(ErrorCode::kInvalid, "{} bytes that describe no link", bytes.size());
}

class NearestLink final : public Link {
 public:
  NearestLink(std::unique_ptr<Link> shm, std::unique_ptr<Link> ucx) : shm_(std::move(shm)), ucx_(std::move(ucx)) {}

  Status open(std::span<const Region> regions) override {
    if (shm_) {
      const Status shared = shm_->open(regions);
      shares_ = shared.ok();
      if (!shares_) log::debug("no memory is shared: {}", shared.error().message);
    }
    return ucx_->open(regions);
  }

  Result<std::string> invite() override {
    Invitation invitation;
    if (shares_) {
      HYLAS_ASSIGN(invitation.shm, shm_->invite());
    }
    HYLAS_ASSIGN(invitation.ucx, ucx_->invite());
    ByteWriter out;
    out(kMagic, invitation, sum_of(invitation));
    return out.take();
  }

  bool revoke(const std::string& invitation) override {
    const auto known = decode_invitation(invitation);
    if (!known.ok()) return true;
    const bool shm = !shm_ || shm_->revoke(known->shm), ucx = ucx_->revoke(known->ucx);
    return shm && ucx;
  }

  Result<int32_t> connect(const std::string& invitation) override {
    HYLAS_ASSIGN(const Invitation known, decode_invitation(invitation));
    std::string why = "it shares no memory";
    if (!shm_) why = "shared memory is switched off here";
    if (shm_ && !known.shm.empty()) {
      const Result<int32_t> peer = shm_->connect(known.shm);
      if (peer.ok()) {
        log::info("states go to a new peer through shared memory");
        return add(*shm_, *peer);
      }
      if (peer.error().code != ErrorCode::kNotFound) return peer.error();
      why = "it is not on this node";
    }
    HYLAS_ASSIGN(const int32_t peer, ucx_->connect(known.ucx));
    log::info("states go to a new peer over UCX: {}", why);
    return add(*ucx_, peer);
  }

  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    const auto [link, its_id] = find(peer);
    link->put(its_id, std::move(writes), std::move(done));
  }

  void disconnect(int32_t peer, const std::string& why) override {
    const auto [link, its_id] = find(peer);
    link->disconnect(its_id, why);
  }

 private:
  struct Peer {
    Link* link;
    int32_t id;
  };

  int32_t add(Link& link, int32_t id) {
    std::lock_guard lock(mutex_);
    peers_[next_peer_] = {&link, id};
    return next_peer_++;
  }
  // One that is unknown here is unknown there.
  Peer find(int32_t peer) {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    return found == peers_.end() ? Peer{ucx_.get(), -1} : found->second;
  }

  const std::unique_ptr<Link> shm_, ucx_;  // shm_: null where it is switched off
  bool shares_ = false;                    // set by open()
  std::mutex mutex_;
  std::map<int32_t, Peer> peers_;  // guarded by mutex_
  int32_t next_peer_ = 0;          // guarded by mutex_
};

}  // namespace

// As UCX reads the list: "^a,b" is everything but these.
bool allows_shm(std::string_view transports) {
  const bool is_negated = transports.starts_with('^');
  if (is_negated) transports.remove_prefix(1);
  bool is_named = false;
  while (!transports.empty()) {
    const std::string_view name = transports.substr(0, transports.find(','));
    is_named |= std::find(std::begin(kShmNames), std::end(kShmNames), name) != std::end(kShmNames) || name == "all";
    transports.remove_prefix(std::min(name.size() + 1, transports.size()));
  }
  return is_named != is_negated;
}

Result<std::unique_ptr<Link>> make_nearest_link(bool with_shm, const UcxLinkOptions& options) {
  HYLAS_ASSIGN(std::unique_ptr<Link> ucx, make_ucx_link(options));
  return std::unique_ptr<Link>(std::make_unique<NearestLink>(with_shm ? make_shm_link() : nullptr, std::move(ucx)));
}

}  // namespace hylas
