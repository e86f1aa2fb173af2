// The link of an instance: shared memory to peers on this node, UCX to the others.
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "transfer/invitation.h"
#include "transfer/link.h"
#include "transfer/ucx_transports.h"

namespace hylas {
namespace {

constexpr uint64_t kMagic = 0x7261656e'6c796861;

struct Invitation {
  std::string shm, ucx;  // shm: empty where no memory is shared
};

Result<Invitation> decode_invitation(std::string_view bytes) {
  Invitation invitation;
  if (unseal_invitation(kMagic, bytes, invitation.shm, invitation.ucx)) return invitation;
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
    return seal_invitation(kMagic, invitation.shm, invitation.ucx);
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

bool allows_shm(std::string_view transports) { return allows_any_of(transports, {"shm", "sm", "mm", "posix", "sysv"}); }

Result<std::unique_ptr<Link>> make_nearest_link(bool with_shm, const UcxLinkOptions& options) {
  HYLAS_ASSIGN(std::unique_ptr<Link> ucx, make_ucx_link(options));
  return std::unique_ptr<Link>(std::make_unique<NearestLink>(with_shm ? make_shm_link() : nullptr, std::move(ucx)));
}

}  // namespace hylas
