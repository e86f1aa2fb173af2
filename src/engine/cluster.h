#pragma once
// Cluster: the nodes of an instance, seen from one of them. Node 0 sends plans to the others and takes their reports,
// over one TCP connection to each: plans are small, their order with the start and the end matters, and the connection
// is watched anyway. Hidden states travel between the ranks through UCX.
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "comm/rendezvous.h"
#include "comm/ucx_fabric.h"
#include "engine/plan_codec.h"

namespace hylas {

struct ClusterOptions {
  ParallelSizes sizes;
  int32_t node = 0;
  HostPort address;  // of node 0
  int64_t wait_us_max = 0;
  Settings settings;  // that all nodes must share
};

// Memory for sequences that a node has, or that all have.
struct Capacity {
  int64_t pages = 0;
  int32_t slots = 0;
};

// Once the nodes have met, the loss of one ends the process within 5 s, whatever it is doing: exit code 1 and one line.
// The calls below are made in this order, by one thread; those that say so are thread-safe.
class Cluster {
 public:
  using OnPlan = std::function<void(StepPlan)>;
  using OnReport = std::function<void(RankReport)>;

  // Meets the other nodes. See meet() for the errors.
  static Result<std::unique_ptr<Cluster>> join(const ClusterOptions& options);
  // If the instance did not come to its end, the others are told that this node gave up.
  ~Cluster();

  // Messages between ranks; a node's id is its number.
  UcxFabric& fabric() { return *fabric_; }
  // Ends the process: `node` is gone. Thread-safe.
  [[noreturn]] void lose(int32_t node, const std::string& why);

  // Ends the process, and with it the instance, because this node stops. Thread-safe.
  [[noreturn]] void quit(const std::string& why);

  // The least of what the nodes have; waits until all have said it.
  Capacity agree(Capacity own);
  // This node failed to start: the others end with `why`.
  void give_up(const Error& why);

  // Node 0: waits until the others are ready. Reports come on threads of the cluster.
  void lead(OnReport on_report);
  // To all other nodes.
  void send_plan(const StepPlan& plan);
  // No more plans: the others finish theirs.
  void announce_end();

  // Other nodes: says that this one is ready. Plans come in order, on a thread of the cluster.
  void follow(OnPlan on_plan);
  void send_report(const RankReport& report);  // thread-safe
  // Whether node 0 announced the end; waits for it at most `wait_us`.
  bool end_announced(int64_t wait_us);

  // This node has done all plans and read all messages: waits until all nodes have, and parts.
  void part();

 private:
  struct Peer {
    std::unique_ptr<TcpLink> link;
    // The reader's.
    int64_t clock_ahead_us = 0;             // its clock against this one's
    int64_t round_trip_us = INT64_MAX / 2;  // the shortest seen
    // What it said; guarded by mutex_.
    bool has_capacity = false, ready = false, done = false;
    Capacity capacity;
    std::jthread reader;
  };
  enum Type : uint8_t;

  explicit Cluster(const ClusterOptions& options) : options_(options) {}
  Status connect(Meeting meeting);
  void read(int32_t node);
  void handle(int32_t node, Frame& frame);
  void handle_heartbeat(int32_t node, const std::string& bytes);
  void handle_loss(const std::string& bytes);
  void send(int32_t node, uint8_t type, std::string_view bytes = {});
  void send_to_all(uint8_t type, std::string_view bytes = {});
  void beat(std::stop_token stop);
  // Waits until `holds(peer)` for all peers, and says for whom every 10 s.
  template <class Holds>
  void wait_for_peers(const char* what, Holds holds);
  [[noreturn]] void end_process(const std::string& line);
  std::string name_of(int32_t node) const;
  bool leads() const { return options_.node == 0; }

  const ClusterOptions options_;
  std::vector<std::unique_ptr<Peer>> peers_;  // by node; null without a connection
  OnPlan on_plan_;
  OnReport on_report_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool agreed_ = false, end_announced_ = false, parted_ = false;  // guarded by mutex_
  Capacity agreed_capacity_;                                      // guarded by mutex_

  std::atomic<bool> started_{false};  // plans and reports may come
  std::atomic<bool> ending_{false};   // one thread ends the process
  std::atomic<bool> quiet_{false};    // nobody needs UCX any more: its peers may close
  std::atomic<bool> closed_{false};   // connections may close
  std::unique_ptr<UcxFabric> fabric_;
  std::jthread heart_;
};

}  // namespace hylas
