#pragma once
// UcxPeer: one process that the UCX link writes into: its endpoint, and the puts on their way to it.
#include <ucp/api/ucp.h>

#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "transfer/link.h"
#include "transfer/ucx_memory.h"

namespace hylas {

// How long ends wait for peers that do not answer.
constexpr auto kUcxCloseWait = std::chrono::seconds(2);

// kIo with UCX's words unless `status` is UCS_OK.
Status ucx_check(ucs_status_t status, const std::string& what);

// The link's thread only. Does not move: UCX knows where it is.
class UcxPeer {
 public:
  // Lost when operations are under way and none ends for `patience_us`: a peer that is stopped, or cut off.
  UcxPeer(UcxMemory memory, int64_t patience_us) : memory_(std::move(memory)), patience_(patience_us) {}
  UcxPeer(const UcxPeer&) = delete;
  UcxPeer& operator=(const UcxPeer&) = delete;

  // Makes the endpoint. The peer has answered when the first put, which may be empty, has ended.
  Status connect(ucp_worker_h worker);
  void add(std::vector<Write> writes, Link::OnDone done);
  // What is under way is ended and fails, and so does all that comes. The first reason counts.
  void lose(const std::string& why);

  // Begins what the window allows, in the order of the puts; true if there was anything.
  bool drive();
  // Reports the puts that have ended; true if there was any.
  bool finish();
  bool busy() const { return !puts_.empty(); }
  // Lost, and nothing is left of it: may be destroyed.
  bool over() const;
  // Closes the endpoint: of a living peer after what is under way. Both for the link's end.
  void begin_close();
  bool closed();

 private:
  // One Link::put on its way.
  struct Put {
    UcxPeer* peer = nullptr;
    std::vector<Write> writes;
    Link::OnDone done;
    PutResult result;
    size_t next = 0;       // first write that is not begun
    int under_way = 0;     // UCX's operations, the flush included
    bool flushed = false;  // the flush was begun: when it ends, all bytes are there

    bool all_begun() const { return next == writes.size() || !result.status.ok(); }
  };

  bool out_of_patience() const;
  static void endpoint_failed(void* peer, ucp_ep_h endpoint, ucs_status_t status);
  static void request_ended(void* request, ucs_status_t status, void* put);
  static void ended(Put& put, ucs_status_t status);
  // `start(parameters)` begins one of the put's operations.
  template <class Start>
  static void begin(Put& put, Start start);
  void put_next(Put& put);

  const UcxMemory memory_;
  const std::chrono::microseconds patience_;
  ucp_ep_h endpoint_ = nullptr;
  void* closing_ = nullptr;       // UCX's request, while the endpoint is being closed
  std::vector<ucp_rkey_h> keys_;  // [region]
  std::list<std::unique_ptr<Put>> puts_;
  std::list<std::unique_ptr<Put>> given_up_;  // reported, though UCX has not answered for them
  int under_way_ = 0;
  std::chrono::steady_clock::time_point moved_at_;  // when something last ended, or began after nothing was under way
  std::string lost_;                                // why; empty while alive
  std::chrono::steady_clock::time_point lost_at_;
};

}  // namespace hylas
