#pragma once
// Sender: pushes state from this instance's ranks to peers, part by part. Rank threads hand parts over and go on at
// once.
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "transfer/link.h"
#include "transfer/stager.h"
#include "transfer/transfer_plan.h"

namespace hylas {

// One part of a sequence for one peer: in a StepPlan, so it travels serialised.
struct SendOp {
  uint64_t transfer = 0;  // whose part: comes back with the report
  int32_t peer = 0;       // see Sender::add_peer
  int32_t group = 0;      // dp group here: its ranks send
  int32_t to_group = 0;   // dp group there
  TransferPart part;
};

// What became of one SendOp on one rank: exactly one for each.
struct SentReport {
  uint64_t transfer = 0;
  int32_t rank = 0;
  PutResult result;
};

// Thread-safe.
class Sender {
 public:
  // Called on a thread of the link.
  using OnSent = std::function<void(SentReport)>;

  // `memory[rank]`: start of the rank's pools; `stagers[rank]`: its way to the link, if that cannot read the memory.
  // Their devices and `link` outlive it.
  Sender(InstanceLayout layout, std::vector<const void*> memory, Link& link, OnSent on_sent,
         std::vector<std::unique_ptr<Stager>> stagers = {});
  // What is still under way fails and is reported first.
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // `link_peer` as Link::connect answered. Plans are made once for each pair of rank and group.
  void add_peer(int32_t peer, InstanceLayout layout, int32_t link_peer);
  // Parts that are still under way fail; later ones for this peer are reported as failed.
  void remove_peer(int32_t peer, const std::string& why);

  // `rank`'s share of the part, once it has computed it, or begun to where it has a stager: then on the thread of its
  // device. Reported also when it has nothing to send.
  void send(int32_t rank, const SendOp& op);

 private:
  struct Peer {
    InstanceLayout layout;
    int32_t link_peer = 0;
    std::map<std::pair<int32_t, int32_t>, TransferPlan> plans;  // {rank, group there}
  };
  struct Prepared {
    int32_t link_peer = 0;
    std::vector<Write> writes;
  };

  Result<Prepared> prepare(int32_t rank, const SendOp& op);
  void report(SentReport report);
  // With mutex_ held.
  const TransferPlan& plan_of(Peer& peer, int32_t rank, int32_t group);

  const InstanceLayout layout_;
  const std::vector<const void*> memory_;
  Link& link_;
  const OnSent on_sent_;
  std::mutex mutex_;
  std::condition_variable reported_;
  int64_t under_way_ = 0;          // guarded by mutex_: parts that are not reported
  std::map<int32_t, Peer> peers_;  // guarded by mutex_
  const std::vector<std::unique_ptr<Stager>> stagers_;
};

}  // namespace hylas
