#pragma once
// Link: writes bytes of this process into memory of another one. Implementations: the same process (tests) and UCX.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace hylas {

struct Region {
  void* data = nullptr;
  size_t bytes = 0;
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

  // Lets peers write into `regions`, which outlive the link; called once. The answer tells a peer how (address and
  // keys, opaque).
  virtual Result<std::string> open(std::span<const Region> regions) = 0;
  // What open() of the other side answered. kInvalid: malformed. kIo: unreachable; waits some seconds for an answer.
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

struct UcxLinkOptions {
  std::string devices;     // UCX_NET_DEVICES: "mlx5_1:1,mlx5_2:1"; empty: UCX chooses
  std::string transports;  // UCX_TLS; empty: UCX chooses
};
Result<std::unique_ptr<Link>> make_ucx_link(const UcxLinkOptions& options);

}  // namespace hylas
