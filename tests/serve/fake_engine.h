#pragma once
// An engine without a model: it answers every request with tokens that the test chooses, one Output for each, on a
// thread of its own as the real one does. Takes turns between requests, stops at stop tokens, lengths and aborts.
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace hylas::test {

class FakeEngine : public Engine {
 public:
  // The tokens that a request gets; after them the end-of-text token, or more and more of the last one if `endless`.
  using Script = std::function<std::vector<int32_t>(const Request&)>;

  FakeEngine(int32_t vocab_size, int32_t eos_id);
  ~FakeEngine() override;

  void set_script(Script script);
  void set_endless(bool endless) { endless_ = endless; }
  void set_token_wait_us(int64_t wait_us) { token_wait_us_ = wait_us; }
  // The next token of every request becomes this error.
  void set_failure(std::string message, bool may_retry = false);
  std::vector<Request> requests() const;  // all that were submitted
  int32_t running() const { return stats().running; }
  bool wait_until_idle(int64_t timeout_us = 5'000'000);

  const EngineInfo& info() const override { return info_; }
  EngineInfo& mutable_info() { return info_; }
  EngineStats stats() const override;
  std::string trace_json() const override { return R"({"traceEvents":[]})"; }
  Result<RequestId> submit(Request request, OutputCallback callback) override;
  void abort(RequestId id) override;
  void abort_all() override;
  void drain(int64_t timeout_us) override;

 private:
  struct Running {
    Request request;
    OutputCallback callback;
    std::vector<int32_t> script;
    size_t next = 0;
    bool aborted = false;
  };
  void run();
  // The next output of a request; with a finish if it is the last.
  Output step(RequestId id, Running& one);

  EngineInfo info_;
  std::atomic<bool> endless_{false};
  std::atomic<int64_t> token_wait_us_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Script script_;
  std::string failure_;
  bool failure_may_retry_ = false;
  std::map<RequestId, Running> running_;
  std::vector<Request> seen_;
  EngineStats stats_;
  RequestId last_id_ = 0;
  bool draining_ = false, stopping_ = false;
  std::jthread thread_;
};

}  // namespace hylas::test
