// hylas router: one address for any number of instances.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <memory>

#include "app/commands.h"
#include "base/log.h"
#include "base/net.h"
#include "base/signals.h"
#include "base/thread.h"
#include "router/router_server.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas router --prefill http://p0:30000 --prefill http://p1:30000 --decode http://d0:30000 --port 8000
  hylas router --worker-urls http://a:30000 http://b:30000 --policy cache_aware
  hylas router --workers-file workers.txt --api-key SECRET
Lines of a workers file: `prefill http://p0:30000`, `decode http://d0:30000`, `regular http://a:30000`; it is read
again when it changes. Then, as with a single server:
  curl localhost:8000/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64}'
  curl localhost:8000/workers
SIGTERM or Ctrl-C lets running requests finish; a second one ends them at once.)";

struct RouterFlags {
  HttpOptions http{.host = "127.0.0.1", .port = 30000, .threads = 2, .connections_max = 16384};
  router::RouterOptions options;
  std::vector<std::string> prefill, decode, whole;
  bool pd_disaggregation = false;
  std::string policy, prefill_policy, decode_policy;
  bool disable_retries = false, disable_circuit_breaker = false;
  double request_s = 1800, queue_s = 300, worker_wait_s = 30, health_interval_s = 5, health_timeout_s = 5;
  double breaker_open_s = 60, breaker_window_s = 120, shutdown_s = 180;
  int64_t first_backoff_ms = 50, longest_backoff_ms = 30'000;
  std::string log_level = "info";
};

// The options of one group, with less to write.
class Group {
 public:
  Group(CLI::App& command, const char* name) : command_(command), name_(name) {}
  template <class T>
  void add(const char* flag, T& into, const char* help, const CLI::Validator& check) {
    command_.add_option(flag, into, help)->check(check)->capture_default_str()->take_last()->group(name_);
  }
  void add(const char* flag, std::string& into, const char* help) {
    command_.add_option(flag, into, help)->capture_default_str()->take_last()->group(name_);
  }
  void list(const char* flag, std::vector<std::string>& into, const char* help) {
    command_.add_option(flag, into, help)->group(name_);
  }
  void flag(const char* flag, bool& into, const char* help) { command_.add_flag(flag, into, help)->group(name_); }

 private:
  CLI::App& command_;
  const char* name_;
};

const CLI::Range kSeconds(0.001, 1e9);

void add_worker_flags(CLI::App& command, RouterFlags& flags) {
  Group workers(command, "Workers");
  workers.list("--prefill", flags.prefill,
               "URL of a prefill instance, and its bootstrap port if it does not report it; may be repeated");
  workers.list("--decode", flags.decode, "URL of a decode instance; may be repeated");
  workers.list("--worker-urls", flags.whole, "URLs of instances that do all of a request");
  workers.add("--workers-file", flags.options.workers_file, "A file of workers; read again when it changes");
  workers.flag("--pd-disaggregation", flags.pd_disaggregation, "Says that --prefill and --decode are meant: checked");
  workers.add("--worker-api-key", flags.options.worker_api_key, "The key that workers ask for");
  CLI::IsMember policies({"round_robin", "random", "power_of_two", "cache_aware"});
  Group policy(command, "Policy");
  policy.add("--policy", flags.policy, "Who gets a request; if not given cache_aware, and power_of_two for decode",
             policies);
  policy.add("--prefill-policy", flags.prefill_policy, "The same of prefill instances; else --policy", policies);
  policy.add("--decode-policy", flags.decode_policy, "The same of decode instances; else --policy", policies);
  router::Balance& balance = flags.options.balance;
  policy.add("--cache-threshold", balance.cache_threshold, "cache_aware: share of the prefix that must be known",
             CLI::Range(0.0, 1.0));
  policy.add("--balance-abs-threshold", balance.balance_abs, "cache_aware: balance by load beyond that difference",
             CLI::NonNegativeNumber);
  policy.add("--balance-rel-threshold", balance.balance_rel, "and that ratio of requests", CLI::Range(1.0, 1e9));
  policy.add("--max-tree-size", flags.options.prefix_bytes_max, "cache_aware: bytes of prompts remembered per worker",
             CLI::PositiveNumber);
}

void add_server_flags(CLI::App& command, RouterFlags& flags) {
  Group server(command, "Server");
  server.add("--host", flags.http.host, "Address to listen on; 0.0.0.0: all");
  server.add("--port", flags.http.port, "Port to listen on", CLI::Range(0, 65535));
  server.add("--api-key", flags.options.api_key, "Ask every client for this key (Authorization: Bearer)");
  server.add("--http-threads", flags.http.threads, "Threads for clients' sockets", CLI::Range(1, 64));
  server.add("--upstream-threads", flags.options.upstream_threads, "Threads for workers' sockets", CLI::Range(1, 64));
  server.add("--max-connections", flags.http.connections_max, "Open connections of clients at a time",
             CLI::Range(1, 1 << 20));
  server.add("--max-payload-size", flags.options.body_bytes_max, "Longest request body, in bytes", CLI::PositiveNumber);
  server.add("--request-timeout-secs", flags.request_s, "Longest time of a request, all tries together", kSeconds);
  server.add("--shutdown-grace-period-secs", flags.shutdown_s, "Time that running requests get on SIGTERM",
             CLI::NonNegativeNumber);
  server.add("--log-level", flags.log_level, "How much is logged to stderr",
             CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  Group queue(command, "Queue");
  queue.add("--max-concurrent-requests", flags.options.queue.concurrent_max,
            "Requests at workers at a time; the others wait. -1: as many as the workers have memory for",
            CLI::Range(int64_t{-1}, int64_t{1} << 32));
  queue.add("--queue-size", flags.options.queue.waiting_max, "Requests that may wait; beyond, the answer is 429",
            CLI::NonNegativeNumber);
  queue.add("--queue-timeout-secs", flags.queue_s, "How long they may wait for room; then the answer is 503", kSeconds);
  queue.add("--worker-wait-secs", flags.worker_wait_s, "The same while no worker is up", kSeconds);
}

void add_fault_flags(CLI::App& command, RouterFlags& flags) {
  Group health(command, "Health");
  health.add("--health-check-interval-secs", flags.health_interval_s, "Between two checks of a worker", kSeconds);
  health.add("--health-check-timeout-secs", flags.health_timeout_s, "For the answer to one", kSeconds);
  health.add("--health-check-endpoint", flags.options.health.path, "What is asked");
  health.add("--health-failure-threshold", flags.options.health.thresholds.failures,
             "Failures in a row until a worker is down; a refused connection is enough", CLI::PositiveNumber);
  health.add("--health-success-threshold", flags.options.health.thresholds.successes,
             "Successes in a row until it is up again", CLI::PositiveNumber);
  Group retries(command, "Retries");
  router::RetryOptions& retry = flags.options.retry;
  retries.add("--retry-max-retries", retry.retries_max, "Of a request that has no answer yet", CLI::NonNegativeNumber);
  retries.add("--retry-initial-backoff-ms", flags.first_backoff_ms, "Before the first", CLI::PositiveNumber);
  retries.add("--retry-max-backoff-ms", flags.longest_backoff_ms, "The longest wait", CLI::PositiveNumber);
  retries.add("--retry-backoff-multiplier", retry.multiplier, "From one to the next", CLI::Range(1.0, 100.0));
  retries.add("--retry-jitter-factor", retry.jitter, "Share by which a wait varies", CLI::Range(0.0, 1.0));
  retries.flag("--disable-retries", flags.disable_retries, "Every failure goes to the client");
  Group breaker(command, "Circuit breaker");
  router::BreakerOptions& options = flags.options.breaker;
  breaker.add("--cb-failure-threshold", options.failures, "Failures until a worker gets no requests",
              CLI::PositiveNumber);
  breaker.add("--cb-window-duration-secs", flags.breaker_window_s, "Time within which they count", kSeconds);
  breaker.add("--cb-timeout-duration-secs", flags.breaker_open_s, "How long it gets none", kSeconds);
  breaker.add("--cb-success-threshold", options.successes, "Successes on trial until all is well again",
              CLI::PositiveNumber);
  breaker.flag("--disable-circuit-breaker", flags.disable_circuit_breaker, "A worker that is up always gets requests");
}

int64_t us(double seconds) { return int64_t(seconds * 1e6); }

// "URL [PORT] URL [PORT] ...": a word that is no URL belongs to the one before it.
Status add_workers(router::WorkerKind kind, const char* flag, const std::vector<std::string>& words,
                   std::vector<router::WorkerAddress>& into) {
  for (size_t i = 0; i < words.size(); ++i) {
    bool has_port = i + 1 < words.size() && words[i + 1].find("://") == std::string::npos;
    auto worker = router::parse_worker(kind, words[i], has_port ? words[i + 1] : "");
    if (!worker.ok()) return error(worker.error().code, "{}: {}", flag, worker.error().message);
    into.push_back(std::move(*worker));
    i += has_port;
  }
  return {};
}

Status set_workers(const RouterFlags& flags, router::RouterOptions& options) {
  using Kind = router::WorkerKind;
  HYLAS_TRY(add_workers(Kind::kPrefill, "--prefill", flags.prefill, options.workers));
  HYLAS_TRY(add_workers(Kind::kDecode, "--decode", flags.decode, options.workers));
  HYLAS_TRY(add_workers(Kind::kWhole, "--worker-urls", flags.whole, options.workers));
  bool file = !options.workers_file.empty();
  if (options.workers.empty() && !file) {
    return error(ErrorCode::kInvalid,
                 "no workers: pass --prefill URL and --decode URL, or --worker-urls URL ..., or --workers-file FILE");
  }
  if (flags.prefill.empty() != flags.decode.empty() && !file) {
    return error(ErrorCode::kInvalid, "{} without {}: a prompt needs both kinds of instances",
                 flags.prefill.empty() ? "--decode" : "--prefill", flags.prefill.empty() ? "--prefill" : "--decode");
  }
  if (flags.pd_disaggregation && flags.prefill.empty() && !file) {
    return error(ErrorCode::kInvalid, "--pd-disaggregation: pass --prefill URL and --decode URL");
  }
  return {};
}

Result<router::RouterOptions> router_options(const RouterFlags& flags) {
  router::RouterOptions options = flags.options;
  HYLAS_TRY(set_workers(flags, options));
  if (!flags.options.health.path.starts_with('/')) {
    return error(ErrorCode::kInvalid, "--health-check-endpoint {} does not begin with /", options.health.path);
  }
  if (!flags.policy.empty()) {
    HYLAS_ASSIGN(options.policy, router::parse_policy(flags.policy));
  } else {
    options.decode_policy = router::Policy::kPowerOfTwo;
  }
  if (!flags.prefill_policy.empty()) {
    HYLAS_ASSIGN(options.prefill_policy, router::parse_policy(flags.prefill_policy));
  }
  if (!flags.decode_policy.empty()) {
    HYLAS_ASSIGN(options.decode_policy, router::parse_policy(flags.decode_policy));
  }
  options.request_us_max = us(flags.request_s);
  options.queue.wait_us_max = us(flags.queue_s);
  options.queue.no_worker_us_max = us(flags.worker_wait_s);
  options.health.interval_us = us(flags.health_interval_s);
  options.health.timeout_us = us(flags.health_timeout_s);
  options.retry.first_us = flags.first_backoff_ms * 1000;
  options.retry.longest_us = flags.longest_backoff_ms * 1000;
  if (flags.disable_retries) options.retry.retries_max = 0;
  options.breaker.enabled = !flags.disable_circuit_breaker;
  options.breaker.open_us = us(flags.breaker_open_s);
  options.breaker.window_us = us(flags.breaker_window_s);
  return options;
}

// A stream through a router has up to three sockets.
void allow_many_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Status route(const RouterFlags& flags) {
  HYLAS_ASSIGN(router::RouterOptions options, router_options(flags));
  HYLAS_CHECK(log::init(flags.log_level), "--log-level {}", flags.log_level);
  block_stop_signals();
  allow_many_files();
  HttpOptions http_options = flags.http;
  http_options.body_bytes_max = options.body_bytes_max;
  HYLAS_ASSIGN(auto http, HttpServer::bind(http_options));
  router::RouterServer server(std::move(http), std::move(options));
  HYLAS_TRY(server.start());
  log::info("routing on http://{}", to_string(HostPort{flags.http.host, server.port()}));
  wait_for_stop_signal();
  log::info("stopping: requests may finish within {} s; a second signal ends them at once", flags.shutdown_s);
  std::atomic<bool> stopped{false};
  auto second = start_thread("second signal", [&] {
    while (!stopped) {
      if (wait_for_stop_signal(50'000) != 0) server.abort_all();
    }
  });
  server.stop(us(flags.shutdown_s));
  stopped = true;
  log::info("stopped");
  return {};
}

}  // namespace

void add_router(CLI::App& app, Action& action) {
  auto flags = std::make_shared<RouterFlags>();
  CLI::App* command = app.add_subcommand("router", "One address for many instances: prefill and decode, or whole ones");
  add_worker_flags(*command, *flags);
  add_server_flags(*command, *flags);
  add_fault_flags(*command, *flags);
  command->footer(kExamples);
  command->callback([flags, &action] {
    action = [flags] {
      Status status = route(*flags);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
