#pragma once
// Link: writes bytes of this process into memory of another one. Implementations: the same process (tests), shared
// memory of one node, UCX, and the nearest of these two.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hylas {

// `file`: whose bytes these are, from its first on, if other processes of this node may map it (shared_memory.h).
struct Region {
  void* data = nullptr;
  size_t bytes = 0;
  int file = -1;
};

// `identity` says which piece of the sequence's state this is (not where it lies): it enters the sum.
struct Write {
  const void* from = nullptr;
  int32_t region = 0;   // of the peer
  uint64_t offset = 0;  // in that region
  uint64_t bytes = 0;
  uint64_t identity = 0;
};

// XXH3 of the bytes with `identity` as its seed. The sum of a put is the wrapped sum of its writes' sums, in any order.
uint64_t write_sum(const void* data, uint64_t bytes, uint64_t identity);
// Copies, and answers write_sum() of the bytes on the way.
uint64_t copy_and_sum(void* to, const void* from, uint64_t bytes, uint64_t identity);

// kInvalid: not within the peer's regions, of which `region_bytes` are the sizes.
Status check_inside(const Write& write, std::span<const uint64_t> region_bytes);

struct PutResult {
  Status status;  // kIo: the peer is gone; some of the bytes may have been written
  uint64_t bytes = 0;
  uint64_t sum = 0;
};

// All calls are thread-safe.
class Link {
 public:
  using OnDone = std::function<void(PutResult)>;

  // Waits for every put that was made, though only seconds for peers that do not answer; their callbacks have returned.
  virtual ~Link() = default;

  // Makes `regions`, which outlive the link, ready for peers to write into; called once.
  virtual Status open(std::span<const Region> regions) = 0;
  // After open(): tells a peer how to write (address and keys, opaque), each one anew, so that it can be taken back.
  virtual Result<std::string> invite() = 0;
  // Takes an invitation back. True: nothing is written by it any more. False: something may be on its way; to be asked
  // again. Never waits long.
  virtual bool revoke(const std::string& invitation) = 0;
  // What invite() of the other side answered. kInvalid: malformed. kIo: unreachable; waits some seconds for an answer.
  // The result is the peer's id, at least 0 and never used again for another one.
  virtual Result<int32_t> connect(const std::string& description) = 0;
  // Writes, in no order. `done` is called once, on a thread of the link, when all bytes are in the peer's memory or no
  // more will be written by this put. Memory that is written from must stay as it is until then. A peer that is gone
  // or that no id names fails it.
  virtual void put(int32_t peer, std::vector<Write> writes, OnDone done) = 0;
  // The peer is gone: its pending puts fail soon, later ones at once.
  virtual void disconnect(int32_t peer, const std::string& why) = 0;
};

// Within this process: copies on a thread of its own, so that the order of events is a real link's.
std::unique_ptr<Link> make_local_link();

// To processes on this node that share its network name space, into regions that have files. Copies on a thread of its
// own. kNotFound of connect(): the peer is not here, or its memory cannot be mapped.
std::unique_ptr<Link> make_shm_link();

struct UcxLinkOptions {
  std::string devices;     // UCX_NET_DEVICES: "mlx5_1:1,mlx5_2:1"; empty: UCX chooses
  std::string transports;  // UCX_TLS; empty: UCX chooses
  // What UCX puts over TCP goes through buffers of this size, each with a call of the kernel and an answer; empty:
  // UCX's own 8 KiB, which spend more time in these than on the bytes. Both sides' alike.
  std::string tcp_segments = "256k";
  int64_t patience_us = 20'000'000;  // a peer that takes no bytes for so long is lost
};
Result<std::unique_ptr<Link>> make_ucx_link(const UcxLinkOptions& options);

// Shared memory where the peer is on this node and both sides are `with_shm`; UCX otherwise. Logs which.
Result<std::unique_ptr<Link>> make_nearest_link(bool with_shm, const UcxLinkOptions& options);

// What UCX is configured to use, by UCX_TLS or its configuration file: "all" if nothing is said.
std::string ucx_transports();
// Whether `transports`, in the words of UCX_TLS, allow shared memory: "shm", "sm" or "all" is among them.
bool allows_shm(std::string_view transports);

}  // namespace hylas
