// The link through shared memory: the peer's memory is mapped here, and a put is a copy. Nothing that the peer does, or
// does not do, can hold it up.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/queue.h"
#include "base/thread.h"
#include "transfer/link.h"
#include "transfer/shm_host.h"

namespace hylas {
namespace {

constexpr int64_t kAnswerUs = 5'000'000;

struct Peer {
  FileHandle socket;  // its end tells the peer that nothing is written any more
  Mapping fence;
  std::vector<Mapping> regions;
  std::vector<uint64_t> bytes;  // [region]

  WriteFence& its_fence() const { return *reinterpret_cast<WriteFence*>(fence.data()); }
  Status write(const Write& write, PutResult& result) const;
};

Status Peer::write(const Write& write, PutResult& result) const {
  HYLAS_TRY(check_inside(write, bytes));
  if (!its_fence().enter()) return error(ErrorCode::kIo, "the peer has taken its memory back");
  result.sum += copy_and_sum(regions[write.region].data() + write.offset, write.from, write.bytes, write.identity);
  its_fence().leave();
  result.bytes += write.bytes;
  return {};
}

Result<Peer> map_peer(const ShmInvitation& invitation) {
  Peer peer;
  HYLAS_ASSIGN(peer.socket, connect_locally(invitation.name));
  HYLAS_TRY(send_locally(peer.socket, invitation.token, {}));
  HYLAS_ASSIGN(const LocalMessage answer, recv_locally(peer.socket, kAnswerUs));
  const size_t filled =
      std::count_if(invitation.bytes.begin(), invitation.bytes.end(), [](uint64_t b) { return b > 0; });
  if (answer.bytes != kShmWelcome || answer.files.size() != 1 + filled) {
    return error(ErrorCode::kIo, "the peer shares {} files of {}", answer.files.size(), 1 + filled);
  }
  HYLAS_ASSIGN(peer.fence, Mapping::of(answer.files[0].number(), sizeof(WriteFence)));
  size_t next = 1;
  for (const uint64_t bytes : invitation.bytes) {
    Mapping& region = peer.regions.emplace_back();
    if (bytes == 0) continue;
    HYLAS_ASSIGN(region, Mapping::of(answer.files[next++].number(), bytes));
  }
  peer.bytes = invitation.bytes;
  return peer;
}

class ShmLink final : public Link {
 public:
  ~ShmLink() override { jobs_.close(); }

  Status open(std::span<const Region> regions) override {
    HYLAS_CHECK(host_ == nullptr, "opened twice");
    HYLAS_ASSIGN(host_, ShmHost::open(regions));
    return {};
  }

  Result<std::string> invite() override {
    if (!host_) return error(ErrorCode::kUnsupported, "no memory is shared here");
    return host_->invite();
  }

  bool revoke(const std::string& invitation) override {
    const auto known = decode_shm_invitation(invitation);
    return !host_ || !known.ok() || host_->revoke(known->token);
  }

  Result<int32_t> connect(const std::string& invitation) override {
    HYLAS_ASSIGN(const ShmInvitation known, decode_shm_invitation(invitation));
    HYLAS_ASSIGN(Peer peer, map_peer(known));
    std::lock_guard lock(mutex_);
    peers_[next_peer_] = {std::make_shared<const Peer>(std::move(peer)), {}};
    return next_peer_++;
  }

  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    HYLAS_CHECK(jobs_.push({peer, std::move(writes), std::move(done)}), "a put after the link's end");
  }

  void disconnect(int32_t peer, const std::string& why) override {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found != peers_.end() && found->second.mapped) found->second = {nullptr, why};
  }

 private:
  struct Known {
    std::shared_ptr<const Peer> mapped;  // none: gone
    std::string why;
  };
  struct Job {
    int32_t peer;
    std::vector<Write> writes;
    OnDone done;
  };

  void work() {
    while (std::optional<Job> job = jobs_.pop()) {
      PutResult result;
      result.status = write(*job, result);
      if (!result.status.ok() && result.status.error().code == ErrorCode::kIo) {
        disconnect(job->peer, result.status.error().message);
      }
      job->done(std::move(result));
    }
  }

  // Looks before each write whether the peer was disconnected, and in the end whether it is there to have the bytes.
  Status write(const Job& job, PutResult& result) {
    for (const Write& write : job.writes) {
      HYLAS_ASSIGN(const auto peer, mapped(job.peer));
      HYLAS_TRY(peer->write(write, result));
    }
    HYLAS_ASSIGN(const auto peer, mapped(job.peer));
    if (!is_open_and_quiet(peer->socket)) return error(ErrorCode::kIo, "the peer has ended");
    return {};
  }

  Result<std::shared_ptr<const Peer>> mapped(int32_t peer) {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return error(ErrorCode::kIo, "peer {} was never connected", peer);
    if (!found->second.mapped) return error(ErrorCode::kIo, "peer {} is lost: {}", peer, found->second.why);
    return found->second.mapped;
  }

  std::unique_ptr<ShmHost> host_;
  std::mutex mutex_;
  std::map<int32_t, Known> peers_;  // guarded by mutex_
  int32_t next_peer_ = 0;           // guarded by mutex_
  Queue<Job> jobs_{SIZE_MAX};
  std::jthread thread_ = start_thread("shm_link", [this] { work(); });
};

}  // namespace

std::unique_ptr<Link> make_shm_link() { return std::make_unique<ShmLink>(); }

}  // namespace hylas
