// The link through shared memory: the peer's memory is mapped here, and a put is a copy. Nothing that the peer does, or
// does not do, can hold it up.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"
#include "transfer/copy_queue.h"
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
  Status is_there() const {
    if (is_open_and_quiet(socket)) return {};
    return error(ErrorCode::kIo, "the peer has ended");
  }
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
    return peers_.add(std::make_shared<const Peer>(std::move(peer)));
  }

  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    peers_.put(peer, std::move(writes), std::move(done));
  }

  void disconnect(int32_t peer, const std::string& why) override { peers_.disconnect(peer, why); }

 private:
  std::unique_ptr<ShmHost> host_;
  CopyQueue<const Peer> peers_{"shm_link"};
};

}  // namespace

std::unique_ptr<Link> make_shm_link() { return std::make_unique<ShmLink>(); }

}  // namespace hylas
