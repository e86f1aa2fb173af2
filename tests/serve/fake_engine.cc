#include "serve/fake_engine.h"

#include <algorithm>
#include <chrono>

namespace hylas::test {

FakeEngine::FakeEngine(int32_t vocab_size, int32_t eos_id) {
  info_ = {.model_name = "fake",
           .context_length = 4096,
           .vocab_size = vocab_size,
           .kv_tokens_max = 4096,
           .running_max = 16,
           .page_size = 64,
           .dtype = "float32",
           .kv_dtype = "float32",
           .state_dtype = "float32",
           .eos_ids = {eos_id}};
  script_ = [](const Request&) { return std::vector<int32_t>(); };
  thread_ = std::jthread([this] { run(); });
}

FakeEngine::~FakeEngine() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

void FakeEngine::set_script(Script script) {
  std::lock_guard lock(mutex_);
  script_ = std::move(script);
}

void FakeEngine::set_failure(std::string message, bool may_retry) {
  std::lock_guard lock(mutex_);
  failure_ = std::move(message);
  failure_may_retry_ = may_retry;
}

std::vector<Request> FakeEngine::requests() const {
  std::lock_guard lock(mutex_);
  return seen_;
}

EngineStats FakeEngine::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.running = int32_t(running_.size());
  stats.slots_used = stats.running;
  stats.slots_max = info_.running_max;
  stats.kv_tokens_max = info_.kv_tokens_max;
  return stats;
}

Result<RequestId> FakeEngine::submit(Request request, OutputCallback callback) {
  std::lock_guard lock(mutex_);
  if (draining_) return error(ErrorCode::kUnavailable, "the engine is stopping");
  seen_.push_back(request);
  ++stats_.requests_total;
  std::vector<int32_t> script = script_(request);
  running_[++last_id_] = {std::move(request), std::move(callback), std::move(script)};
  changed_.notify_all();
  return last_id_;
}

void FakeEngine::abort(RequestId id) {
  std::lock_guard lock(mutex_);
  if (auto it = running_.find(id); it != running_.end()) it->second.aborted = true;
  changed_.notify_all();
}

void FakeEngine::abort_all() {
  std::lock_guard lock(mutex_);
  for (auto& [id, one] : running_) one.aborted = true;
  changed_.notify_all();
}

void FakeEngine::drain(int64_t timeout_us) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  auto idle = [this] { return running_.empty(); };
  if (changed_.wait_for(lock, std::chrono::microseconds(timeout_us), idle)) return;
  for (auto& [id, one] : running_) one.aborted = true;
  changed_.notify_all();
  changed_.wait(lock, idle);
}

bool FakeEngine::wait_until_idle(int64_t timeout_us) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::microseconds(timeout_us), [this] { return running_.empty(); });
}

void FakeEngine::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait(lock, [this] { return stopping_ || !running_.empty(); });
    for (auto it = running_.begin(); it != running_.end();) {
      Output output = step(it->first, it->second);
      bool last = output.finish.has_value();
      it->second.callback(std::move(output));
      it = last ? running_.erase(it) : std::next(it);
    }
    changed_.notify_all();
    if (int64_t wait_us = token_wait_us_) changed_.wait_for(lock, std::chrono::microseconds(wait_us));
  }
}

Output FakeEngine::step(RequestId id, Running& one) {
  const SamplingParams& sampling = one.request.sampling;
  Output output{.id = id};
  if (one.aborted) {
    ++stats_.aborted_total;
    output.finish = FinishReason::kAbort;
    return output;
  }
  if (!failure_.empty()) {
    output.finish = FinishReason::kError;
    output.error = failure_;
    output.may_retry = failure_may_retry_;
    return output;
  }
  if (one.next == 0 && sampling.prompt_logprobs_from >= 0) {
    for (size_t i = size_t(sampling.prompt_logprobs_from); i < one.request.prompt.size(); ++i) {
      output.prompt_logprobs.push_back({.id = one.request.prompt[i], .logprob = -1.5f});
    }
  }
  bool more = one.next < one.script.size();
  int32_t token = more ? one.script[one.next] : endless_ && !one.script.empty() ? one.script.back() : info_.eos_ids[0];
  ++one.next;
  OutputToken made{.id = token, .logprob = -0.5f};
  for (int32_t i = 0; i < sampling.top_logprobs; ++i)
    made.top.push_back({(token + i) % info_.vocab_size, -0.5f - float(i)});
  output.tokens.push_back(std::move(made));
  ++stats_.generated_tokens_total;
  bool is_stop = std::ranges::count(sampling.stop_token_ids, token) > 0 ||
                 (!sampling.ignore_eos && std::ranges::count(info_.eos_ids, token) > 0);
  if (is_stop) {
    output.finish = FinishReason::kStop;
    output.stop_token = token;
  } else if (int32_t(one.next) >= sampling.max_new_tokens) {
    output.finish = FinishReason::kLength;
  }
  return output;
}

}  // namespace hylas::test
