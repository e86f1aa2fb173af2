#pragma once
// DecodeHandoff: a decoding instance. Memory that the scheduler has reserved is granted to the prefilling instance that
// the request names; the sequence goes on once its state has landed.
#include <map>
#include <memory>
#include <unordered_map>

#include "engine/handoff.h"
#include "transfer/decode_port.h"

namespace hylas {

class DecodeHandoff final : public Handoff {
 public:
  // A state that arrives wrong is asked for again, this many times in all.
  static constexpr int kTriesMax = 3;

  using Handoff::Handoff;
  // `port` tells its events to on_event(), on the scheduler thread.
  void connect(std::unique_ptr<DecodePort> port) { port_ = std::move(port); }
  void on_event(DecodePort::Event event);

  void submit(RequestId id, Request request) override;
  void abort(RequestId id) override;
  void abort_all() override;
  void advance(int64_t now_us) override;
  bool idle() const override { return epochs_.empty(); }
  void close() override;

 private:
  // A request until its state has landed and its epoch is over.
  struct Waiting {
    RequestId id = 0;
    Bootstrap bootstrap;
    int32_t prompt_tokens = 0;
    uint64_t prompt_checksum = 0;
    Reservation memory;
    int tries = 0;
  };
  void grant(Waiting waiting);
  void abort_epoch_of(RequestId id);
  void on(DecodePort::Landed& event);
  void on(DecodePort::Closed& event);
  void on(DecodePort::Stalled& event);

  std::unique_ptr<DecodePort> port_;
  std::unordered_map<RequestId, Waiting> queued_;  // without memory
  std::map<uint64_t, Waiting> epochs_;             // granted, by epoch
  uint64_t epoch_ = 0;                             // the last one
};

}  // namespace hylas
