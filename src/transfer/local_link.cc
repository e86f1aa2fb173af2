// The link within one process: real copies on a thread of its own.
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "base/byte_io.h"
#include "base/check.h"
#include "base/queue.h"
#include "base/thread.h"
#include "transfer/link.h"

namespace hylas {
namespace {

// The memory that one link opened. It outlives that link only for those who are just looking at it.
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
    close();
    jobs_.close();
  }

  Result<std::string> open(std::span<const Region> regions) override {
    HYLAS_CHECK(target_ == nullptr, "opened twice");
    target_ = std::make_shared<Target>();
    target_->regions.assign(regions.begin(), regions.end());
    for (const Region& region : regions) target_->sizes.push_back(region.bytes);
    std::lock_guard lock(targets().mutex);
    id_ = targets().next++;
    targets().open[id_] = target_;
    ByteWriter out;
    out(kMagic, id_);
    return out.take();
  }

  Result<int32_t> connect(const std::string& description) override {
    uint64_t magic = 0, id = 0;
    ByteReader in(description);
    in(magic, id);
    if (!in.complete() || magic != kMagic) {
      return error(ErrorCode::kInvalid, "{} bytes that describe no link of this process", description.size());
    }
    std::shared_ptr<Target> target;
    {
      std::lock_guard lock(targets().mutex);
      if (const auto found = targets().open.find(id); found != targets().open.end()) target = found->second;
    }
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

  void close() {
    if (!target_) return;
    {
      std::lock_guard lock(targets().mutex);
      targets().open.erase(id_);
    }
    std::lock_guard lock(target_->mutex);
    target_->open = false;
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
    if (!target.open) return error(ErrorCode::kIo, "the peer closed its link");
    HYLAS_TRY(check_inside(write, target.sizes));
    std::memcpy(static_cast<std::byte*>(target.regions[write.region].data) + write.offset, write.from, write.bytes);
    return {};
  }

  std::shared_ptr<Target> target_;
  uint64_t id_ = 0;
  std::mutex mutex_;
  std::map<int32_t, Peer> peers_;  // guarded by mutex_
  int32_t next_peer_ = 0;          // guarded by mutex_
  Queue<Job> jobs_{SIZE_MAX};
  std::jthread thread_ = start_thread("local_link", [this] { work(); });
};

}  // namespace

std::unique_ptr<Link> make_local_link() { return std::make_unique<LocalLink>(); }

}  // namespace hylas
