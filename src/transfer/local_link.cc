// The link within one process: real copies on a thread of its own.
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/check.h"
#include "transfer/copy_queue.h"
#include "transfer/invitation.h"
#include "transfer/link.h"

namespace hylas {
namespace {

// The memory that one invitation opens. It outlives that link only for those who are just looking at it.
struct Target {
  std::mutex mutex;
  bool open = true;  // guarded by mutex: the regions are there
  std::vector<Region> regions;
  std::vector<uint64_t> sizes;

  Status write(const Write& write, PutResult& result) {
    std::lock_guard lock(mutex);
    if (!open) return taken_back();
    HYLAS_TRY(check_inside(write, sizes));
    auto* to = static_cast<std::byte*>(regions[write.region].data) + write.offset;
    result.sum += copy_and_sum(to, write.from, write.bytes, write.identity);
    result.bytes += write.bytes;
    return {};
  }
  Status is_there() {
    std::lock_guard lock(mutex);
    return open ? Status() : taken_back();
  }
  static Status taken_back() { return error(ErrorCode::kIo, "the peer has taken its memory back"); }
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
    return seal_invitation(kMagic, id);
  }

  bool revoke(const std::string& invitation) override {
    if (const auto id = decode(invitation); id.ok()) close(*id);
    return true;
  }

  Result<int32_t> connect(const std::string& invitation) override {
    HYLAS_ASSIGN(const uint64_t id, decode(invitation));
    const std::shared_ptr<Target> target = find(id);
    if (!target) return error(ErrorCode::kIo, "link {} is closed", id);
    return peers_.add(target);
  }

  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    peers_.put(peer, std::move(writes), std::move(done));
  }

  void disconnect(int32_t peer, const std::string& why) override { peers_.disconnect(peer, why); }

 private:
  static Result<uint64_t> decode(const std::string& invitation) {
    uint64_t id = 0;
    if (unseal_invitation(kMagic, invitation, id)) return id;
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

  std::optional<std::vector<Region>> opened_;
  std::set<uint64_t> mine_;  // guarded by the targets' mutex: ids of invitations
  CopyQueue<Target> peers_{"local_link"};
};

}  // namespace

std::unique_ptr<Link> make_local_link() { return std::make_unique<LocalLink>(); }

}  // namespace hylas
