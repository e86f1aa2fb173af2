#pragma once
// What the command line says about a router. Plain values, filled in by the app; names and defaults are SGLang's where
// the meaning is the same.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/circuit_breaker.h"
#include "router/health.h"
#include "router/policy.h"
#include "router/worker_address.h"

namespace hylas::router {

struct RetryOptions {
  int retries_max = 5;
  int64_t first_us = 50'000;
  int64_t longest_us = 30'000'000;
  double multiplier = 1.5;
  double jitter = 0.2;  // at most that share more or less
};

// The wait before retry `number` (from 1). `random` is uniform over [0, 1).
int64_t backoff_us(const RetryOptions& retry, int number, double random);

struct QueueOptions {
  int64_t concurrent_max = -1;  // requests at instances at a time; -1: no limit
  int64_t waiting_max = 4096;
  int64_t wait_us_max = 300'000'000;
  int64_t no_worker_us_max = 30'000'000;  // the same while no instance is up
};

struct HealthOptions {
  std::string path = "/health";
  int64_t interval_us = 5'000'000;
  int64_t timeout_us = 5'000'000;
  int64_t load_interval_us = 200'000;  // of instances at work
  HealthThresholds thresholds;
};

struct RouterOptions {
  std::vector<WorkerAddress> workers;
  std::string workers_file;  // empty: none
  Policy policy = Policy::kCacheAware;
  std::optional<Policy> prefill_policy, decode_policy;
  Balance balance;
  int64_t prefix_bytes_max = int64_t{1} << 26;  // of the prompts that cache_aware remembers, for each instance
  QueueOptions queue;
  RetryOptions retry;
  HealthOptions health;
  BreakerOptions breaker;
  int64_t request_us_max = 1'800'000'000;
  int64_t connect_us_max = 5'000'000;
  size_t body_bytes_max = size_t{512} << 20;
  std::string api_key;         // that clients must bring; empty: open to all
  std::string worker_api_key;  // that instances ask for; empty: what the client brought
  int upstream_threads = 2;
};

}  // namespace hylas::router
