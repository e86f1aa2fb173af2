#pragma once
// Client: collects the outputs of an engine's requests. Outlives the engine's requests; its waits are bounded, so that
// a hang is a failed test.
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "engine/engine.h"

namespace hylas {

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<OutputToken> outputs;
  std::vector<OutputToken> prompt_logprobs;
  std::optional<FinishReason> finish;
  std::string error;
  bool may_retry = false;
};

class Client {
 public:
  explicit Client(Engine& engine) : engine_(engine) {}

  RequestId send(const Request& request) {
    Result<RequestId> id =
        engine_.submit(request, [shared = shared_](Output output) { shared->take(std::move(output)); });
    HYLAS_CHECK(id.ok(), "{}", id.error().message);
    return *id;
  }
  // Until the request's last output.
  Answer wait(RequestId id) {
    return wait_until(id, [](const Answer& answer) { return answer.finish.has_value(); });
  }
  void wait_for_tokens(RequestId id, size_t tokens) {
    wait_until(id, [&](const Answer& answer) { return answer.tokens.size() >= tokens || answer.finish; });
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<RequestId, Answer> answers;

    void take(Output output) {
      std::lock_guard lock(mutex);
      Answer& answer = answers[output.id];
      HYLAS_CHECK(!answer.finish, "an output of {} after its last", output.id);
      for (OutputToken& token : output.tokens) {
        answer.tokens.push_back(token.id);
        answer.outputs.push_back(std::move(token));
      }
      for (OutputToken& token : output.prompt_logprobs) answer.prompt_logprobs.push_back(std::move(token));
      answer.finish = output.finish;
      answer.error = output.error;
      answer.may_retry = output.may_retry;
      changed.notify_all();
    }
  };

  template <class Done>
  Answer wait_until(RequestId id, Done done) {
    std::unique_lock lock(shared_->mutex);
    bool came = shared_->changed.wait_for(lock, std::chrono::minutes(3), [&] { return done(shared_->answers[id]); });
    HYLAS_CHECK(came, "request {} hangs", id);
    return shared_->answers[id];
  }

  Engine& engine_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// Whether no request holds anything; waits a little, because memory comes back after the last output.
inline bool nothing_in_use(const Engine& engine) {
  for (int64_t end_us = now_us() + 10'000'000; now_us() < end_us;) {
    const EngineStats stats = engine.stats();
    if (stats.pages_used == 0 && stats.slots_used == 0 && stats.running == 0 && stats.queued == 0 &&
        stats.landing_pages_used == 0 && stats.landing_slots_used == 0) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace hylas
