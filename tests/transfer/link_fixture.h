#pragma once
// Links of every kind to memory of this process or of another one, for tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "support/child_process.h"
#include "transfer/link.h"
#include "transfer/shared_memory.h"

namespace hylas::test {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr size_t kRegions = 2, kRegionBytes = 80 << 20;

struct LinkKind {
  const char* name;
  std::function<std::unique_ptr<Link>()> make;
  bool own_process;  // the memory is another process's
};
inline std::unique_ptr<Link> make_tcp_link() { return make_ucx_link({.transports = "tcp"}).value(); }
inline std::unique_ptr<Link> make_near_link() { return make_nearest_link(true, {.transports = "tcp"}).value(); }
inline std::unique_ptr<Link> make_far_link() { return make_nearest_link(false, {.transports = "tcp"}).value(); }
inline void PrintTo(const LinkKind& kind, std::ostream* out) { *out << kind.name; }

// Memory that links write into. It is shared with the process that opens it, so that a test sees what arrived there.
class Far {
 public:
  explicit Far(const LinkKind& kind) {
    constexpr int kShared = MAP_SHARED | MAP_ANONYMOUS;
    void* memory = mmap(nullptr, sizeof(Said), PROT_READ | PROT_WRITE, kShared, -1, 0);
    HYLAS_CHECK(memory != MAP_FAILED);
    said_ = new (memory) Said;
    for (size_t i = 0; i < kRegions; ++i) {
      const FileHandle& file = files_.emplace_back(make_shared_file(kRegionBytes).value());
      memory_.push_back(Mapping::of(file.number(), kRegionBytes).value());
      regions_.push_back({region(i), kRegionBytes, file.number()});
    }
    if (!kind.own_process) {
      link_ = kind.make();
      description_ = invite(*link_);
      return;
    }
    process_ = std::make_unique<ChildProcess>([this, kind](const std::function<void()>& ready) {
      const std::unique_ptr<Link> link = kind.make();
      const std::string description = invite(*link);
      HYLAS_CHECK(description.size() <= sizeof said_->text);
      std::memcpy(said_->text, description.data(), description.size());
      said_->bytes = description.size();
      ready();
      while (!said_->end) {
        if (said_->revoke && link->revoke(description)) said_->revoked = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      return 0;
    });
    HYLAS_CHECK(process_->wait_until_ready(), "{}", process_->log());
    description_.assign(said_->text, said_->bytes);
  }
  ~Far() {
    said_->end = true;
    link_.reset();
    process_.reset();
    munmap(said_, sizeof(Said));
  }

  const std::string& description() const { return description_; }
  std::byte* region(size_t i) const { return memory_[i].data(); }
  ChildProcess& process() { return *process_; }
  // The other process takes its invitation back.
  void begin_revoking() { said_->revoke = true; }
  // Nothing is written any more; whether that came in time.
  bool revoked(Clock::duration most) const {
    const auto due = Clock::now() + most;
    while (!said_->revoked && Clock::now() < due) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return said_->revoked;
  }

 private:
  struct alignas(64) Said {
    char text[16384];
    size_t bytes = 0;
    std::atomic<bool> end = false, revoke = false, revoked = false;
  };
  std::string invite(Link& link) const {
    const Status opened = link.open(regions_);
    HYLAS_CHECK(opened.ok(), "{}", opened.error().message);
    return link.invite().value();
  }

  Said* said_ = nullptr;
  std::vector<FileHandle> files_;
  std::vector<Mapping> memory_;
  std::vector<Region> regions_;
  std::unique_ptr<Link> link_;
  std::unique_ptr<ChildProcess> process_;
  std::string description_;
};

// Callbacks of puts, counted and waited for.
class Results {
 public:
  Link::OnDone add() {
    std::lock_guard lock(mutex_);
    const size_t index = results_.size();
    results_.push_back({});
    times_.push_back(0);
    return [this, index](PutResult result) {
      std::lock_guard lock(mutex_);
      results_[index] = std::move(result);
      ++times_[index];
      changed_.notify_all();
    };
  }
  // False if some had not come.
  bool wait(Clock::duration most = seconds(60)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(
        lock, most, [&] { return std::all_of(times_.begin(), times_.end(), [](int times) { return times > 0; }); });
  }
  std::vector<PutResult> all() {
    EXPECT_TRUE(wait());
    std::lock_guard lock(mutex_);
    EXPECT_THAT(times_, testing::Each(1)) << "each is called once";
    return results_;
  }
  size_t failed() {
    size_t count = 0;
    for (const PutResult& result : all()) count += result.status.ok() ? 0 : 1;
    return count;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<PutResult> results_;
  std::vector<int> times_;
};

inline PutResult put_and_wait(Link& link, int32_t peer, std::vector<Write> writes) {
  Results results;
  link.put(peer, std::move(writes), results.add());
  return results.all().at(0);
}

inline uint64_t sum_of(std::span<const Write> writes) {
  uint64_t sum = 0;
  for (const Write& write : writes) sum += write_sum(write.from, write.bytes, write.identity);
  return sum;
}
inline uint64_t bytes_of(std::span<const Write> writes) {
  return std::accumulate(writes.begin(), writes.end(), uint64_t{0},
                         [](uint64_t sum, const Write& write) { return sum + write.bytes; });
}

inline std::vector<std::byte> random_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class LinkFixture : public testing::TestWithParam<LinkKind> {
 protected:
  // What arrived is what was sent, and the sum on either side is the put's.
  void expect_arrived(const std::vector<Write>& writes, const PutResult& result) {
    ASSERT_TRUE(result.status.ok()) << result.status.error().message;
    EXPECT_EQ(result.bytes, bytes_of(writes));
    EXPECT_EQ(result.sum, sum_of(writes));
    std::vector<Write> landed = writes;
    for (Write& write : landed) write.from = far_.region(write.region) + write.offset;
    EXPECT_EQ(sum_of(landed), result.sum);
    for (size_t i = 0; i < writes.size(); ++i) {
      ASSERT_EQ(std::memcmp(writes[i].from, landed[i].from, writes[i].bytes), 0) << "write " << i;
    }
  }

  Far far_{GetParam()};  // forks, so before the link's thread is there
  std::unique_ptr<Link> link_ = GetParam().make();
};

}  // namespace hylas::test
