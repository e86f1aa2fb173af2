#pragma once
// InstancePair: a prefilling and a decoding instance on fake ranks, with a control connection and a link whose messages
// a test delivers one at a time, whenever it likes.
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "engine/decode_handoff.h"
#include "engine/driver.h"
#include "engine/prefill_handoff.h"

namespace hylas {

// One of the two, with what it has not finished yet.
struct Side {
  explicit Side(const SchedulerOptions& options_in) : options(options_in), scheduler(options), rank(options) {}

  SchedulerOptions options;
  Scheduler scheduler;
  FakeRank rank;
  std::deque<StepPlan> sent;
  std::map<RequestId, Text> texts;
  std::map<RequestId, bool> may_retry;  // of those that ended with an error
};

class InstancePair {
 public:
  InstancePair(const SchedulerOptions& prefill, const SchedulerOptions& decode);

  // A router's: the same request, at either side.
  void submit_prefill(RequestId id, uint64_t room, Request request);
  void submit_decode(RequestId id, uint64_t room, Request request);
  void abort_prefill(RequestId id);
  void abort_decode(RequestId id);

  // Each does one thing, and says whether there was anything to do.
  bool plan(Side& side);
  bool finish_one(Side& side);
  bool deliver_to_prefill();
  bool deliver_to_decode();
  // The part `index` of those under way arrives, in any order.
  bool deliver_part(size_t index);
  size_t parts() const { return parts_.size(); }
  // A rank of the decoding side says that what had landed was copied.
  bool deliver_copied();
  void run_until_idle();

  // What can go wrong.
  void damage_next_state() { is_damaged_ = true; }
  void lose_connection();
  void stall();

  bool idle() const;
  bool clean() const;

  Side prefill, decode;
  int32_t now_s = 0;

 private:
  class PrefillEnd;
  class DecodeEnd;
  struct Part {
    SendOp op;
    int32_t reports = 0;  // of the group's ranks
  };

  void settle(Side& side, Handoff& handoff);

  PrefillHandoff prefill_handoff_;
  DecodeHandoff decode_handoff_;
  std::deque<ControlMessage> to_prefill_, to_decode_;
  std::map<uint64_t, uint64_t> rooms_;  // of open epochs
  uint64_t landed_room_ = 0;            // of the state that landed last
  std::deque<Part> parts_;
  std::deque<RequestId> copied_;  // at the decoding side, by each rank
  int32_t peer_ = 1;              // of the connection at the prefilling side
  bool is_damaged_ = false;
};

inline SchedulerOptions with_role(SchedulerOptions options, InstanceRole role) {
  options.role = role;
  return options;
}

// A router sends it to both.
inline void submit(InstancePair& pair, RequestId id, const Request& request) {
  pair.submit_prefill(id, 100 + id, request);
  pair.submit_decode(id, 100 + id, request);
}

}  // namespace hylas
