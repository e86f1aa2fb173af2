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

namespace hylas::test {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr size_t kRegions = 2, kRegionBytes = 80 << 20;

struct LinkKind {
  const char* name;
  const char* transports;  // of UCX; none: the local link
  bool own_process;        // the memory is another process's
};
inline void PrintTo(const LinkKind& kind, std::ostream* out) { *out << kind.name; }

inline std::unique_ptr<Link> make_link(const LinkKind& kind) {
  return kind.transports == nullptr ? make_local_link() : make_ucx_link({.transports = kind.transports}).value();
}

// Memory that links write into. It is shared with the process that opens it, so that a test sees what arrived there.
class Far {
 public:
  explicit Far(const LinkKind& kind) {
    constexpr int kShared = MAP_SHARED | MAP_ANONYMOUS;
    void* memory = mmap(nullptr, sizeof(Said) + kRegions * kRegionBytes, PROT_READ | PROT_WRITE, kShared, -1, 0);
    HYLAS_CHECK(memory != MAP_FAILED);
    said_ = static_cast<Said*>(memory);
    for (size_t i = 0; i < kRegions; ++i) regions_.push_back({region(i), kRegionBytes});
    if (!kind.own_process) {
      link_ = make_link(kind);
      description_ = link_->open(regions_).value();
      return;
    }
    process_ = std::make_unique<ChildProcess>([this, kind](const std::function<void()>& ready) {
      const std::unique_ptr<Link> link = make_link(kind);
      const std::string description = link->open(regions_).value();
      HYLAS_CHECK(description.size() <= sizeof said_->text);
      std::memcpy(said_->text, description.data(), description.size());
      said_->bytes = description.size();
      ready();
      while (!said_->end) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return 0;
    });
    HYLAS_CHECK(process_->wait_until_ready(), "{}", process_->log());
    description_.assign(said_->text, said_->bytes);
  }
  ~Far() {
    said_->end = true;
    link_.reset();
    process_.reset();
    munmap(said_, sizeof(Said) + kRegions * kRegionBytes);
  }

  const std::string& description() const { return description_; }
  std::byte* region(size_t i) const { return reinterpret_cast<std::byte*>(said_ + 1) + i * kRegionBytes; }
  ChildProcess& process() { return *process_; }

 private:
  struct alignas(64) Said {
    char text[8192];
    size_t bytes;
    std::atomic<bool> end;
  };
  Said* said_ = nullptr;
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
  std::unique_ptr<Link> link_ = make_link(GetParam());
};

}  // namespace hylas::test
