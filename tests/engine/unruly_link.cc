#include "engine/unruly_link.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "base/clock.h"

namespace hylas::test {
namespace {

class UnrulyLink final : public Link {
 public:
  UnrulyLink(std::unique_ptr<Link> link, const Unruliness& unruliness)
      : unruliness_(unruliness), random_(unruliness.seed), link_(std::move(link)), thread_([this] { run(); }) {}
  ~UnrulyLink() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  Status open(std::span<const Region> regions) override { return link_->open(regions); }
  Result<std::string> invite() override { return link_->invite(); }
  bool revoke(const std::string& invitation) override { return link_->revoke(invitation); }
  Result<int32_t> connect(const std::string& invitation) override { return link_->connect(invitation); }
  void disconnect(int32_t peer, const std::string& why) override { link_->disconnect(peer, why); }

  void put(int32_t peer, std::vector<Write> writes, OnDone done) override {
    std::lock_guard lock(mutex_);
    const int64_t delay_us = static_cast<int64_t>(random_() % static_cast<uint64_t>(unruliness_.delay_us_max + 1));
    waiting_.emplace(now_us() + delay_us, Put{peer, std::move(writes), std::move(done)});
    changed_.notify_all();
  }

 private:
  struct Put {
    int32_t peer;
    std::vector<Write> writes;
    OnDone done;
  };

  void run() {
    std::unique_lock lock(mutex_);
    while (!stopping_ || !waiting_.empty()) {
      if (waiting_.empty()) {
        changed_.wait(lock);
        continue;
      }
      const int64_t wait_us = waiting_.begin()->first - now_us();
      if (wait_us > 0) {
        changed_.wait_for(lock, std::chrono::microseconds(wait_us));
        continue;
      }
      Put put = std::move(waiting_.extract(waiting_.begin()).mapped());
      const int number = puts_++;
      lock.unlock();
      send(std::move(put), number);
      lock.lock();
    }
  }

  void send(Put put, int number) {
    if (number == unruliness_.cut_at_put) link_->disconnect(put.peer, "the cable is cut");
    if (number != unruliness_.damaged_put || put.writes.empty()) {
      return link_->put(put.peer, std::move(put.writes), std::move(put.done));
    }
    // The bytes arrive, and then one of them once more and wrong; the sum is that of the right ones.
    Write wrong = put.writes.front();
    auto byte = std::make_shared<unsigned char>(*static_cast<const unsigned char*>(wrong.from) ^ 4);
    wrong.from = byte.get();
    wrong.bytes = 1;
    link_->put(put.peer, std::move(put.writes),
               [this, peer = put.peer, wrong, byte, done = std::move(put.done)](PutResult result) {
                 link_->put(peer, {wrong}, [byte, done, result](const PutResult&) { done(result); });
               });
  }

  const Unruliness unruliness_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::mt19937_64 random_;               // guarded by mutex_
  std::multimap<int64_t, Put> waiting_;  // guarded by mutex_: by when it goes out
  bool stopping_ = false;                // guarded by mutex_
  int puts_ = 0;                         // the thread's
  std::unique_ptr<Link> link_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Link> make_unruly_link(std::unique_ptr<Link> link, const Unruliness& unruliness) {
  return std::make_unique<UnrulyLink>(std::move(link), unruliness);
}

}  // namespace hylas::test
