#include "engine/node_worker.h"

#include "base/log.h"
#include "base/signals.h"
#include "engine/rank_threads.h"
#include "engine/startup.h"

namespace hylas {

Status run_node(const EngineOptions& options) {
  HYLAS_CHECK(options.node_rank > 0);
  HYLAS_ASSIGN(Startup startup, start_up(options));
  Cluster& cluster = *startup.cluster;
  RankThreads ranks(std::move(startup.ranks), startup.scheduler.plans_in_flight_max,
                    [&](const RankReport& report) { cluster.send_report(report); });
  cluster.follow([&](StepPlan plan) { ranks.push(std::make_shared<const StepPlan>(std::move(plan))); });
  log::info("node {} is ready, and works for node 0 at {} until that one ends", options.node_rank,
            options.dist_init_addr);
  int signals = 0;
  while (!cluster.end_announced(50'000)) {
    if (wait_for_stop_signal(0) == 0) continue;
    if (++signals == 2) cluster.quit("a second signal came before node 0 had ended the instance");
    log::info("stopping when node 0 does; a second signal ends the instance at once");
  }
  ranks.stop();
  cluster.part();
  log::info("node 0 has ended the instance");
  return {};
}

}  // namespace hylas
