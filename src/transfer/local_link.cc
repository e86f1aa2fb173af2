// The link within one process: real copies on a thread of its own.
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/byte_io.h"
#include "base/check.h"
#include "base/queue.h"
#include "base/thread.h"
#include "transfer/link.h"

namespace hylas {
namespace {

// The memory that one invitation opens. It outlives that link only for those who are just looking at it.
struct Target {
  std::mutex mutex;
  bool open = true;  // guarded by mutex: the regions are there
  std::vector<Region> regions;
  std::vector<uint64_t> sizes;
};

// What is open in this process.
struct Targets {
  std::mutex mutex;
  uint64_t next = 1;
  std::map<uint64_t, std::shared_ptr<Target>> open;
};
Targets& targets() {
  static Targets all;
  return all;
}

constexpr uint64_t kMagic = 0x6c61636f6c796861;

class LocalLink : public Link {
 public:
  ~LocalLink() override {
    for (const uint64_t id : mine_) close(id);
    jobs_.close();
  }

  Status open(std::span<const Region> regions) override {
    HYLAS_CHECK(!opened_, "opened twice");
    opened_.emplace(regions.begin(), regions.end());
    return {};
  }

  Result<std::string> invite() override {
    HYLAS_CHECK(opened_, "nothing is open");
    auto target = std::make_shared<Target>();
    target->regions = *opened_;
    for (const Region& region : *opened_) target->sizes.push_back(region.bytes);
    std::lock_guard lock(targets().mutex);
    const uint64_t id = targets().next++;
    targets().open[id] = std::move(target);
    mine_.insert(id);
    ByteWriter out;
    out(kMagic, id);
    return out.take();
  }

  bool revoke(const std::string& invitation) override {
    if (const auto id = decode(invitation); id.ok()) close(*id);
    return true;
  }

  Result<int32_t> connect(const std::string& invitation) override {
    HYLAS_ASSIGN(const uint64_t id, decode(invitation));
    const std::shared_ptr<Target> target = find(id);
    if (!target) return error(ErrorCode::kIo, "link {} is closed", id);
    std::lock_guard lock(mutex_);
    peers_[next_peer_] = {target, {}};
    return next_peer_++;
  }

  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    HYLAS_CHECK(jobs_.push({peer, std::move(writes), std::move(done)}), "a put after the link's end");
  }

  void disconnect(int32_t peer, const std::string& why) override {
    std::lock_guard lock(mutex_);
    if (const auto found = peers_.find(peer); found != peers_.end()) found->second = {nullptr, why};
  }

 private:
  struct Peer {
    std::shared_ptr<Target> target;  // none: gone
    std::string why;
  };
  struct Job {
    int32_t peer;
    std::vector<Write> writes;
    OnDone done;
  };

  static Result<uint64_t> decode(const std::string& invitation) {
    uint64_t magic = 0, id = 0;
    ByteReader in(invitation);
    in(magic, id);
    if (in.complete() && magic == kMagic) return id;
    return error(ErrorCode::kInvalid, "{} bytes that describe no link of this process", invitation.size());
  }

  static std::shared_ptr<Target> find(uint64_t id) {
    std::lock_guard lock(targets().mutex);
    const auto found = targets().open.find(id);
    return found == targets().open.end() ? nullptr : found->second;
  }

  // Waits for a copy that has begun.
  static void close(uint64_t id) {
    const std::shared_ptr<Target> target = find(id);
    if (!target) return;
    {
      std::lock_guard lock(target->mutex);
      target->open = false;
    }
    std::lock_guard lock(targets().mutex);
    targets().open.erase(id);
  }

  void work() {
    while (std::optional<Job> job = jobs_.pop()) {
      PutResult result;
      // Asked before each write: the peer may go meanwhile.
      for (auto write = job->writes.begin();; ++write) {
        const Result<std::shared_ptr<Target>> target = target_of(job->peer);
        if (!target.ok()) result.status = target.error();
        if (!target.ok() || write == job->writes.end()) break;
        result.status = copy(**target, *write);
        if (!result.status.ok()) break;
        result.bytes += write->bytes;
        result.sum += write_sum(write->from, write->bytes, write->identity);
      }
      job->done(std::move(result));
    }
  }

  Result<std::shared_ptr<Target>> target_of(int32_t peer) {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return error(ErrorCode::kIo, "peer {} was never connected", peer);
    if (!found->second.target) return error(ErrorCode::kIo, "peer {}: {}", peer, found->second.why);
    return found->second.target;
  }

  static Status copy(Target& target, const Write& write) {
    std::lock_guard lock(target.mutex);
    if (!target.open) return error(ErrorCode::kIo, "the peer has taken its memory back");
    HYLAS_TRY(check_inside(write, target.sizes));
    std::memcpy(static_cast<std::byte*>(target.regions[write.region].data) + write.offset, write.from, write.bytes);
    return {};
  }

  std::optional<std::vector<Region>> opened_;
  std::set<uint64_t> mine_;  // guarded by the targets' mutex: ids of invitations
  std::mutex mutex_;
  std::map<int32_t, Peer> peers_;  // guarded by mutex_
  int32_t next_peer_ = 0;          // guarded by mutex_
  Queue<Job> jobs_{SIZE_MAX};
  std::jthread thread_ = start_thread("local_link", [this] { work(); });
};

}  // namespace

std::unique_ptr<Link> make_local_link() { return std::make_unique<LocalLink>(); }

}  // namespace hylas
