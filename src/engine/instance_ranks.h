#pragma once
// InstanceRanks: all ranks of an instance as one: those of this process on their threads, those of other nodes behind
// the cluster. For node 0.
#include <memory>
#include <vector>

#include "engine/cluster.h"
#include "engine/rank_threads.h"

namespace hylas {

class InstanceRanks {
 public:
  // `cluster` is null with one node. Waits until all nodes are ready. `on_report` is called on several threads.
  InstanceRanks(std::vector<std::unique_ptr<Rank>> ranks, std::unique_ptr<Cluster> cluster, int32_t plans_max,
                RankThreads::OnReport on_report)
      : cluster_(std::move(cluster)), local_(std::move(ranks), plans_max, on_report) {
    if (cluster_) cluster_->lead(std::move(on_report));
  }
  ~InstanceRanks() { stop(); }

  // At most `plans_max` plans are out at a time, so it does not wait for ranks.
  void push(const std::shared_ptr<const StepPlan>& plan) {
    if (cluster_) cluster_->send_plan(*plan);
    local_.push(plan);
  }
  // Finishes the plans that were pushed, on all nodes, and parts from these.
  void stop() {
    if (cluster_) cluster_->announce_end();
    local_.stop();
    if (cluster_) cluster_->part();
    cluster_.reset();
  }

 private:
  std::unique_ptr<Cluster> cluster_;  // outlives the ranks, which talk through it
  RankThreads local_;
};

}  // namespace hylas
