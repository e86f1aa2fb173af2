#pragma once
// ShmHost: lets processes of this node map this process's memory, and takes it back. Whoever knows an invitation gets
// the files over a local socket, and keeps that connection: when it ends, the process has ended, or writes no more.
#include <sys/poll.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "transfer/link.h"
#include "transfer/local_socket.h"
#include "transfer/shared_memory.h"
#include "transfer/write_fence.h"

namespace hylas {

// What an invitation says.
struct ShmInvitation {
  std::string name;             // of the local socket
  std::string token;            // to be said there first: whoever knows it may write
  std::vector<uint64_t> bytes;  // [region]
};
std::string encode(const ShmInvitation& invitation);
// kInvalid: not what encode() wrote.
Result<ShmInvitation> decode_shm_invitation(std::string_view bytes);

// Said before the files, of which the first is the fence; the others are those of the regions that have bytes.
constexpr std::string_view kShmWelcome = "hylas shm 1";

// Thread-safe.
class ShmHost {
 public:
  // kUnsupported: not all of the regions have files. kIo: no local sockets here.
  static Result<std::unique_ptr<ShmHost>> open(std::span<const Region> regions);
  // Takes everything back, and waits a second at most for writes that have begun.
  ~ShmHost();

  std::string invite();
  // As Link::revoke.
  bool revoke(const std::string& token);

 private:
  struct Guest {
    FileHandle socket;
    int64_t came_us = 0;
    Mapping fence;  // once admitted
    WriteFence& its_fence() const { return *reinterpret_cast<WriteFence*>(fence.data()); }
  };
  struct Invitation {
    bool is_revoked = false;
    std::list<Guest> guests;
  };

  ShmHost(std::span<const Region> regions, std::string name, FileHandle listener, FileHandle alarm);
  void run();
  std::vector<pollfd> waits();
  void tend();
  Status admit(Guest stranger);
  static bool take_back(Invitation& invitation);

  const std::string name_;
  const FileHandle listener_, alarm_;
  std::vector<uint64_t> bytes_;  // [region]
  std::vector<int> files_;       // of the regions that have bytes
  std::mutex mutex_;
  bool stopping_ = false;                          // guarded by mutex_
  std::map<std::string, Invitation> invitations_;  // guarded by mutex_: by token
  std::list<Guest> strangers_;                     // the thread's: have said nothing yet
  std::jthread thread_;
};

}  // namespace hylas
