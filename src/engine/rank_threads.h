#pragma once
// RankThreads: the ranks of this process, each on its own thread. Every plan goes to every rank; what a rank has done
// comes back through one callback.
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/queue.h"
#include "engine/rank.h"

namespace hylas {

// What one rank did with one plan.
struct RankReport {
  RankPlace place;
  StepResult result;  // rows only from ranks that report them
};

class RankThreads {
 public:
  // Called on rank threads, for the ranks that report().
  using OnReport = std::function<void(RankReport)>;

  // `plans_max` plans are out at a time at most, so push() never waits.
  RankThreads(std::vector<std::unique_ptr<Rank>> ranks, int32_t plans_max, OnReport on_report);
  ~RankThreads() { stop(); }

  void push(std::shared_ptr<const StepPlan> plan);
  // Finishes the plans that were pushed.
  void stop();

 private:
  struct Worker {
    std::unique_ptr<Rank> rank;
    std::unique_ptr<Queue<std::shared_ptr<const StepPlan>>> plans;
    std::jthread thread;
  };
  void run(Worker& worker);

  std::vector<Worker> workers_;
  OnReport on_report_;
};

}  // namespace hylas
