#pragma once
// Disaggregation: what connects an instance with a role to those of the other one: the link that carries states, and
// the control connections.
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/handoff.h"
#include "engine/startup.h"
#include "transfer/file_handle.h"
#include "transfer/link.h"
#include "transfer/sender.h"

namespace hylas {

// Where others cannot write into the device's memory: gives the ranks of a decoding instance host memory for states to
// land in, and tells the scheduler's options how much. Before the scheduler is made.
Status add_landing(const EngineOptions& options, Startup& startup);

// Lifetime: the ranks of `startup` have their memory; they outlive it, and so does the scheduler.
class Disaggregation {
 public:
  // For a whole instance nothing but a Handoff that passes on. kIo: the bootstrap port cannot be bound, or UCX has no
  // such devices. Sets the bootstrap port of `startup.info`.
  // States travel over `link`; null: shared memory to instances on this node, UCX to others.
  static Result<std::unique_ptr<Disaggregation>> open(const EngineOptions& options, Startup& startup,
                                                      Scheduler& scheduler, Handoff::Post post,
                                                      std::unique_ptr<Link> link);

  Handoff& handoff() { return *handoff_; }

 private:
  Status open_prefill(const EngineOptions& options, Startup& startup, Scheduler& scheduler, Handoff::Post post);
  Result<std::vector<Region>> share(std::vector<Region> regions);
  Status open_decode(const EngineOptions& options, Startup& startup, Scheduler& scheduler, Handoff::Post post);

  std::vector<FileHandle> files_;  // of the ranks' memory, where it is shared
  std::unique_ptr<Link> link_;
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<Handoff> handoff_;  // its port uses the others
};

// Engine::start with another link between the instances.
Result<std::unique_ptr<Engine>> start_engine(const EngineOptions& options, std::unique_ptr<Link> link);

}  // namespace hylas
