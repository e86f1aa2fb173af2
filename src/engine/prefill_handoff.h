#pragma once
// PrefillHandoff: a prefilling instance. A request waits until a decoding instance has granted memory for its state;
// then it is prefilled, and what it says first goes there. Its client (the router) hears when the state was received.
#include <map>
#include <memory>
#include <unordered_map>

#include "engine/handoff.h"
#include "transfer/prefill_port.h"

namespace hylas {

struct PrefillHandoffOptions {
  int32_t page_size = 64;
  int64_t lease_us = 30'000'000;        // of a grant whose request does not come
  int64_t grant_wait_us = 300'000'000;  // of a request whose grant does not come
  uint64_t seed = 0;                    // of the seeds of requests that bring none
};

class PrefillHandoff final : public Handoff {
 public:
  PrefillHandoff(Scheduler& scheduler, const PrefillHandoffOptions& options)
      : Handoff(scheduler), options_(options), seeds_(options.seed) {}
  // `port` tells its events to on_event(), `sender` its reports to on_sent(), both on the scheduler thread.
  void connect(std::unique_ptr<PrefillPort> port) { port_ = std::move(port); }
  void on_event(PrefillPort::Event event);
  void on_sent(const SentReport& report) { scheduler_.on_sent(report); }

  void submit(RequestId id, Request request) override;
  void abort(RequestId id) override;
  void abort_all() override;
  void take(std::vector<Output> outputs) override;
  void advance(int64_t now_us) override;
  bool idle() const override { return rooms_.empty(); }
  int32_t waiting() const override { return static_cast<int32_t>(rooms_.size() - by_attempt_.size()); }
  void close() override;

 private:
  // One request. It waits for a grant, is tried in the scheduler under an id of the try, and waits to be received.
  struct Room {
    RequestId id = 0;
    Request request;
    int64_t since_us = 0;
    int32_t peer = -1;  // of the grant
    uint64_t epoch = 0;
    RequestId attempt = 0;  // in the scheduler; 0: none
    Output said;            // of the attempt: its first token, or why there is none
    bool is_done = false;  // Done is out
    // Why the attempt is given up, if it is.
    bool is_aborted = false, client_left = false, peer_gone = false;
  };
  using Rooms = std::map<uint64_t, Room>;
  struct EarlyGrant {
    int32_t peer;
    Grant grant;
    int64_t since_us;
  };

  void on(PrefillPort::Granted& event);
  void on(PrefillPort::AbortWanted& event);
  void on(PrefillPort::WasReceived& event);
  void on(PrefillPort::PeerGone& event);
  void begin(uint64_t number, Room& room, int32_t peer, const Grant& grant);
  void give_up(Room& room);
  void depart(const Departure& departure);
  void finish(Rooms::iterator room, FinishReason reason, const std::string& why = {}, bool may_retry = false);
  void refuse(int32_t peer, const Grant& grant, bool may_retry, std::string why);
  void send(int32_t peer, const ControlMessage& message);

  const PrefillHandoffOptions options_;
  std::mt19937_64 seeds_;
  std::unique_ptr<PrefillPort> port_;
  Rooms rooms_;
  std::unordered_map<RequestId, uint64_t> by_id_;       // client's id: room
  std::unordered_map<RequestId, uint64_t> by_attempt_;  // scheduler's id: room
  std::map<uint64_t, EarlyGrant> early_;                // by room: the request has not come yet
  RequestId attempts_ = 0;
};

}  // namespace hylas
