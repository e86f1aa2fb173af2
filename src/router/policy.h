#pragma once
// Which of several instances gets a request. Pure: values in, an index out.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace hylas::router {

enum class Policy : uint8_t { kRoundRobin, kRandom, kPowerOfTwo, kCacheAware };

const char* policy_name(Policy policy);
Result<Policy> parse_policy(const std::string& name);

// An instance that may get the request.
struct Choice {
  int64_t requests = 0;       // at it now
  int64_t work = 0;           // what power_of_two compares: waiting prompt tokens or requests
  size_t matched_blocks = 0;  // of the request's prefix that it has seen
  size_t cached_blocks = 0;   // of all prefixes
};

// Of cache_aware. Imbalanced is: the most minus the least requests are above `balance_abs`, and the most is above
// `balance_rel` times the least. Then the one with the least gets it; else the one that knows more than
// `cache_threshold` of the prefix, or without such the one with the least in its cache.
struct Balance {
  double cache_threshold = 0.3;
  int64_t balance_abs = 64;
  double balance_rel = 1.5;
};

// `turn` counts requests; `random` is uniform over 64 bits. `choices` is not empty.
size_t choose(Policy policy, std::span<const Choice> choices, size_t prefix_blocks, uint64_t turn, uint64_t random,
              const Balance& balance);

}  // namespace hylas::router
