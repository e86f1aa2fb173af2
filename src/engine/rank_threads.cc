#include "engine/rank_threads.h"

#include <deque>
#include <utility>

#include "base/thread.h"

namespace hylas {

RankThreads::RankThreads(std::vector<std::unique_ptr<Rank>> ranks, int32_t plans_max, OnReport on_report)
    : on_report_(std::move(on_report)) {
  workers_.resize(ranks.size());
  for (size_t i = 0; i < ranks.size(); ++i) {
    workers_[i].rank = std::move(ranks[i]);
    workers_[i].plans = std::make_unique<Queue<std::shared_ptr<const StepPlan>>>(plans_max);
  }
  for (Worker& worker : workers_) {
    const std::string name = fmt::format("rank {}", worker.rank->place().rank);
    worker.thread = start_thread(name.c_str(), [this, &worker] {
      run(worker);
      worker.rank->finish();
    });
  }
}

// A report waits for its tokens and times where the device works behind the rank's back; the next plan does not wait
// for them.
void RankThreads::run(Worker& worker) {
  constexpr int64_t kPollUs = 50;
  Rank& rank = *worker.rank;
  std::deque<RankReport> open;
  while (!worker.plans->drained() || !open.empty()) {
    if (auto plan = open.empty() ? worker.plans->pop() : worker.plans->pop_for(kPollUs)) {
      open.push_back({rank.place(), rank.execute(**plan)});
    }
    for (; !open.empty() && rank.settle(open.front().result); open.pop_front()) {
      if (rank.reports()) on_report_(std::move(open.front()));
    }
  }
}

void RankThreads::push(std::shared_ptr<const StepPlan> plan) {
  for (Worker& worker : workers_) worker.plans->push(plan);
}

void RankThreads::stop() {
  for (Worker& worker : workers_) worker.plans->close();
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) worker.thread.join();
  }
}

}  // namespace hylas
