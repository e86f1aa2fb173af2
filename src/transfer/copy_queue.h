#pragma once
// CopyQueue: what links that copy have in common: their peers, and a thread that does the puts in their order.
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/queue.h"
#include "base/thread.h"
#include "transfer/link.h"

namespace hylas {

// Of a Peer: Status write(const Write&, PutResult&) copies, and adds bytes and sum; Status is_there() says in the end
// whether it is there to have the bytes. kIo of either: it is lost.
template <class Peer>
class CopyQueue {
 public:
  explicit CopyQueue(std::string thread_name) : thread_(start_thread(std::move(thread_name), [this] { work(); })) {}
  ~CopyQueue() { jobs_.close(); }

  int32_t add(std::shared_ptr<Peer> peer) {
    std::lock_guard lock(mutex_);
    peers_[next_peer_] = {std::move(peer), {}};
    return next_peer_++;
  }
  // Both as those of Link.
  void put(int32_t peer, std::vector<Write> writes, Link::OnDone done) {
    HYLAS_CHECK(jobs_.push({peer, std::move(writes), std::move(done)}), "a put after the link's end");
  }
  void disconnect(int32_t peer, const std::string& why) {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found != peers_.end() && found->second.peer) found->second = {nullptr, why};
  }

 private:
  struct Known {
    std::shared_ptr<Peer> peer;  // none: gone
    std::string why;
  };
  struct Job {
    int32_t peer;
    std::vector<Write> writes;
    Link::OnDone done;
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

  // Looks before each write whether the peer was disconnected.
  Status write(const Job& job, PutResult& result) {
    for (const Write& write : job.writes) {
      HYLAS_ASSIGN(const auto peer, find(job.peer));
      HYLAS_TRY(peer->write(write, result));
    }
    HYLAS_ASSIGN(const auto peer, find(job.peer));
    return peer->is_there();
  }

  Result<std::shared_ptr<Peer>> find(int32_t peer) {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return error(ErrorCode::kIo, "peer {} was never connected", peer);
    if (!found->second.peer) return error(ErrorCode::kIo, "peer {} is lost: {}", peer, found->second.why);
    return found->second.peer;
  }

  std::mutex mutex_;
  std::map<int32_t, Known> peers_;  // guarded by mutex_
  int32_t next_peer_ = 0;           // guarded by mutex_
  Queue<Job> jobs_{SIZE_MAX};
  std::jthread thread_;
};

}  // namespace hylas
