// The engine's threads: one scheduler, one for each rank. Requests, aborts and reports reach the scheduler through one
// inbox, plans reach the ranks through short queues, so nobody waits for another while there is work.
#include "engine/engine.h"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <variant>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/thread.h"
#include "engine/disaggregation.h"
#include "engine/instance_ranks.h"
#include "engine/rate_meter.h"
#include "engine/report_merge.h"
#include "engine/scheduler.h"
#include "engine/startup.h"
#include "engine/timeline.h"

namespace hylas {
namespace {

// What reaches the scheduler thread.
struct Submit {
  RequestId id;
  Request request;
  OutputCallback callback;
};
struct Abort {
  RequestId id;
};
struct AbortAll {};
struct Stop {};
struct Sync {};                      // everything that came before is done once this is
using Call = std::function<void()>;  // what the other instances say
using Event = std::variant<Submit, Abort, AbortAll, Stop, Sync, RankReport, Call>;
using Inbox = Queue<Event>;

// How often the clock is looked at when nothing happens, and how long transfers may take to end when the engine stops.
constexpr int64_t kTickUs = 500'000;
constexpr int64_t kPartUs = 3'000'000;

class ThreadedEngine final : public Engine {
 public:
  ThreadedEngine(Startup startup, std::unique_ptr<Scheduler> scheduler, std::shared_ptr<Inbox> inbox,
                 std::unique_ptr<Disaggregation> disaggregation)
      : info_(std::move(startup.info)),
        limits_(startup.scheduler.limits()),
        scheduler_(std::move(scheduler)),
        inbox_(std::move(inbox)),
        timeline_(info_.parallel.pp),
        merge_(info_.parallel),
        ranks_(std::move(startup.ranks), std::move(startup.cluster), startup.scheduler.plans_in_flight_max,
               [this](RankReport report) { inbox_->push(std::move(report)); }),
        disaggregation_(std::move(disaggregation)),
        handoff_(disaggregation_->handoff()) {
    publish_stats();
    scheduler_thread_ = start_thread("scheduler", [this] { run_scheduler(); });
  }
  ~ThreadedEngine() override { stop(); }

  const EngineInfo& info() const override { return info_; }

  EngineStats stats() const override {
    std::lock_guard lock(stats_mutex_);
    EngineStats stats = stats_;
    stats.generation_tokens_per_s = rate_.per_second(now_us());
    return stats;
  }

  std::string trace_json() const override {
    std::lock_guard lock(stats_mutex_);
    return timeline_.trace_json();
  }

  Result<RequestId> submit(Request request, OutputCallback callback) override {
    HYLAS_TRY(check_request(request, limits_));
    if (info_.role != InstanceRole::kWhole && !request.bootstrap) {
      return error(ErrorCode::kInvalid,
                   "this instance only {}: requests come through a router (hylas router), which adds bootstrap_host, "
                   "bootstrap_port and bootstrap_room",
                   info_.role == InstanceRole::kPrefill ? "prefills" : "decodes");
    }
    const RequestId id = ++ids_;
    if (accepting_ && inbox_->push(Submit{id, std::move(request), std::move(callback)})) return id;
    return error(ErrorCode::kUnavailable, "the engine is stopping and takes no more requests");
  }

  void abort(RequestId id) override { inbox_->push(Abort{id}); }
  void abort_all() override { inbox_->push(AbortAll{}); }

  void drain(int64_t timeout_us) override {
    accepting_ = false;
    inbox_->push(Sync{});
    {
      std::unique_lock lock(stats_mutex_);
      drained_changed_.wait_for(lock, std::chrono::microseconds(timeout_us), [this] { return drained_; });
    }
    stop();
  }

 private:
  void stop() {
    accepting_ = false;
    std::lock_guard lock(stop_mutex_);
    inbox_->push(Stop{});
    if (scheduler_thread_.joinable()) scheduler_thread_.join();
    ranks_.stop();
  }

  void run_scheduler() {
    while (!stopping_ || !idle()) {
      while (std::optional<StepPlan> plan = scheduler_->next_plan()) send(*std::move(plan));
      handoff_.advance(now_us());
      deliver_outputs();
      publish_stats();
      std::optional<Event> event = inbox_->pop_for(kTickUs);
      for (; event; event = inbox_->pop_for(0)) std::visit([this](auto& what) { handle(what); }, *event);
      if (stopping_ && now_us() - stopping_since_us_ > kPartUs) handoff_.close();
      deliver_outputs();
    }
    inbox_->close();
    while (std::optional<Event> event = inbox_->pop()) {
      if (auto* late = std::get_if<Submit>(&*event)) refuse(*late);
    }
    publish_stats();
  }

  bool idle() const { return scheduler_->idle() && handoff_.idle(); }

  void deliver_outputs() {
    uint64_t tokens = 0;
    for (Output& output : handoff_.take_outputs()) {
      tokens += output.tokens.size();
      deliver(std::move(output));
    }
    if (tokens == 0) return;
    std::lock_guard lock(stats_mutex_);
    rate_.add(now_us(), tokens);
  }

  void send(StepPlan plan) {
    {
      std::lock_guard lock(stats_mutex_);
      timeline_.plan_sent(plan, now_us());
    }
    ranks_.push(std::make_shared<const StepPlan>(std::move(plan)));
  }

  void handle(Submit& what) {
    if (stopping_) return refuse(what);
    callbacks_.emplace(what.id, std::move(what.callback));
    handoff_.submit(what.id, std::move(what.request));
  }
  void handle(Abort& what) { handoff_.abort(what.id); }
  void handle(AbortAll&) { handoff_.abort_all(); }
  void handle(Stop&) {
    stopping_ = true;
    stopping_since_us_ = now_us();
    handoff_.abort_all();
  }
  void handle(Call& call) { call(); }
  void handle(Sync&) { sync_came_ = true; }
  void handle(RankReport& report) {
    {
      std::lock_guard lock(stats_mutex_);
      timeline_.add(report);
    }
    std::optional<StepResult> result = merge_.add(std::move(report));
    if (!result) return;
    handoff_.take(scheduler_->on_result(*std::move(result)));
    std::lock_guard lock(stats_mutex_);
    timeline_.result_back(now_us());
  }

  void deliver(Output output) {
    auto found = callbacks_.find(output.id);
    if (!output.finish) return found->second(std::move(output));
    OutputCallback callback = std::move(found->second);
    callbacks_.erase(found);
    callback(std::move(output));
  }
  // A request that came while the engine was stopping.
  static void refuse(Submit& what) {
    Output output;
    output.id = what.id;
    output.finish = FinishReason::kAbort;
    what.callback(std::move(output));
  }

  void publish_stats() {
    std::lock_guard lock(stats_mutex_);
    stats_ = scheduler_->stats();
    stats_.queued += handoff_.waiting();
    stats_.stages = timeline_.stages(now_us());
    drained_ = sync_came_ && idle();
    if (drained_) drained_changed_.notify_all();
  }

  const EngineInfo info_;
  const RequestLimits limits_;

  // The scheduler thread's.
  std::unique_ptr<Scheduler> scheduler_;
  std::unordered_map<RequestId, OutputCallback> callbacks_;
  bool stopping_ = false;
  int64_t stopping_since_us_ = 0;
  bool sync_came_ = false;

  // Shared.
  std::atomic<RequestId> ids_{0};
  std::atomic<bool> accepting_{true};
  std::shared_ptr<Inbox> inbox_;
  mutable std::mutex stats_mutex_;  // guards the four below
  EngineStats stats_;
  Timeline timeline_;
  mutable RateMeter rate_;
  bool drained_ = false;  // drain() asked, and all that came before it is done
  std::condition_variable drained_changed_;
  std::mutex stop_mutex_;  // one thread stops the others
  ReportMerge merge_;      // the scheduler thread's
  InstanceRanks ranks_;
  std::unique_ptr<Disaggregation> disaggregation_;  // reads and writes the ranks' memory
  Handoff& handoff_;
  std::jthread scheduler_thread_;
};

}  // namespace

Result<std::unique_ptr<Engine>> Engine::start(const EngineOptions& options) { return start_engine(options, nullptr); }

Result<std::unique_ptr<Engine>> start_engine(const EngineOptions& options, std::unique_ptr<Link> link) {
  HYLAS_ASSIGN(Startup startup, start_up(options));
  HYLAS_TRY(add_landing(options, startup));
  auto scheduler = std::make_unique<Scheduler>(startup.scheduler);
  // Never full: requests wait in the scheduler's queue anyway, and results must not wait.
  auto inbox = std::make_shared<Inbox>(SIZE_MAX);
  const Handoff::Post post = [inbox](Call call) { inbox->push(std::move(call)); };
  HYLAS_ASSIGN(auto disaggregation, Disaggregation::open(options, startup, *scheduler, post, std::move(link)));
  return std::unique_ptr<Engine>(
      new ThreadedEngine(std::move(startup), std::move(scheduler), std::move(inbox), std::move(disaggregation)));
}

}  // namespace hylas
