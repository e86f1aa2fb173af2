#pragma once
// Handoff: how requests reach the scheduler and how its outputs reach the clients. Here they go straight; an instance
// that only prefills or only decodes puts the other instance in between (prefill_handoff.h, decode_handoff.h).
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "engine/scheduler.h"

namespace hylas {

// The scheduler thread's, like the scheduler: what other threads have to say comes through Post.
class Handoff {
 public:
  // Runs something on the scheduler thread, soon.
  using Post = std::function<void(std::function<void()>)>;

  explicit Handoff(Scheduler& scheduler) : scheduler_(scheduler) {}
  virtual ~Handoff() = default;

  // As the scheduler's members. Outputs come from take_outputs().
  virtual void submit(RequestId id, Request request) { scheduler_.submit(id, std::move(request)); }
  virtual void abort(RequestId id) { add(scheduler_.abort(id)); }
  virtual void abort_all() { add(scheduler_.abort_all()); }
  // What the scheduler said about a step.
  virtual void take(std::vector<Output> outputs) { add(std::move(outputs)); }

  // After each event: passes on what the scheduler has reserved or finished meanwhile, and looks at the clock.
  virtual void advance(int64_t now_us) { (void)now_us; }
  // Nobody waits for the other instance.
  virtual bool idle() const { return true; }
  // Requests that are not in the scheduler.
  virtual int32_t waiting() const { return 0; }
  // The engine stops: parts from the other instances. What is still open counts as failed.
  virtual void close() {}

  // For clients, in order.
  std::vector<Output> take_outputs() { return std::exchange(outputs_, {}); }

 protected:
  void add(Output output) { outputs_.push_back(std::move(output)); }
  void add(std::optional<Output> output) {
    if (output) outputs_.push_back(*std::move(output));
  }
  void add(std::vector<Output> outputs) {
    for (Output& output : outputs) outputs_.push_back(std::move(output));
  }

  Scheduler& scheduler_;

 private:
  std::vector<Output> outputs_;
};

// Both sides of a pair mean the same prompt if its tokens have the same checksum.
uint64_t prompt_checksum(const std::vector<int32_t>& prompt);

}  // namespace hylas
