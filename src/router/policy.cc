#include "router/policy.h"

#include <algorithm>
#include <tuple>

namespace hylas::router {
namespace {

constexpr std::pair<const char*, Policy> kNames[] = {{"round_robin", Policy::kRoundRobin},
                                                     {"random", Policy::kRandom},
                                                     {"power_of_two", Policy::kPowerOfTwo},
                                                     {"cache_aware", Policy::kCacheAware}};

template <class Key>
size_t least(std::span<const Choice> choices, uint64_t turn, Key key) {
  size_t best = turn % choices.size();  // equal ones take turns
  for (size_t i = 1; i < choices.size(); ++i) {
    size_t other = (turn + i) % choices.size();
    if (key(choices[other]) < key(choices[best])) best = other;
  }
  return best;
}

size_t power_of_two(std::span<const Choice> choices, uint64_t random) {
  size_t count = choices.size();
  if (count == 1) return 0;
  size_t first = (random & UINT32_MAX) % count;
  size_t second = (first + 1 + (random >> 32) % (count - 1)) % count;
  auto load = [&](size_t i) { return std::tuple(choices[i].work, choices[i].requests); };
  return load(second) < load(first) ? second : first;
}

size_t cache_aware(std::span<const Choice> choices, size_t prefix_blocks, uint64_t turn, const Balance& balance) {
  auto requests = [](const Choice& one) { return one.requests; };
  auto [low, high] = std::ranges::minmax(choices, {}, &Choice::requests);
  if (high.requests - low.requests > balance.balance_abs &&
      double(high.requests) > balance.balance_rel * double(low.requests)) {
    return least(choices, turn, requests);
  }
  // Of those that know the same, the one with fewer requests.
  auto order = [](const Choice& one) { return std::tuple(-int64_t(one.matched_blocks), one.requests); };
  size_t best = least(choices, turn, order);
  if (prefix_blocks == 0) return least(choices, turn, requests);  // too short to be worth a place
  double known = double(choices[best].matched_blocks) / double(prefix_blocks);
  if (known > balance.cache_threshold) return best;
  return least(choices, turn, [](const Choice& one) { return std::tuple(one.cached_blocks, one.requests); });
}

}  // namespace

const char* policy_name(Policy policy) {
  for (const auto& [name, value] : kNames) {
    if (value == policy) return name;
  }
  return "";
}

Result<Policy> parse_policy(const std::string& name) {
  for (const auto& [known, value] : kNames) {
    if (name == known) return value;
  }
  return error(ErrorCode::kInvalid, "'{}' is no policy: round_robin, random, power_of_two or cache_aware", name);
}

size_t choose(Policy policy, std::span<const Choice> choices, size_t prefix_blocks, uint64_t turn, uint64_t random,
              const Balance& balance) {
  switch (policy) {
    case Policy::kRoundRobin:
      return turn % choices.size();
    case Policy::kRandom:
      return random % choices.size();
    case Policy::kPowerOfTwo:
      return power_of_two(choices, random);
    case Policy::kCacheAware:
      return cache_aware(choices, prefix_blocks, turn, balance);
  }
  return 0;
}

}  // namespace hylas::router
