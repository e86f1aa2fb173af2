#include "transfer/port_support.h"

#include <random>
#include <thread>

#include "base/clock.h"
#include "cache/pool_blocks.h"
#include "transfer/transfer_plan.h"

namespace hylas::test {

bool eventually(const std::function<bool()>& holds) {
  const int64_t due_us = now_us() + kWaitUs;
  while (!holds()) {
    if (now_us() > due_us) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

InstanceLayout small_layout(ParallelSizes sizes) {
  constexpr int64_t kHeads = 4, kLayersPerKind = 4;
  InstanceLayout layout{.model = "small", .weights = "w", .page_size = 4, .pages = 8, .slots = 3, .sizes = sizes};
  for (int32_t rank = 0; rank < sizes.world(); ++rank) {
    const RankPlace place = place_of(sizes, rank);
    const int64_t units = kHeads / sizes.attn_tp(), begin = units * place.attn_rank;
    StateKind kv{.name = "kv", .segments = {{"k", units, 8, begin}, {"v", units, 8, begin}}};
    StateKind delta{.name = "delta", .scope = StateScope::kPerSequence, .segments = {{"state", units, 32, begin}}};
    for (int32_t i = 0; i < kLayersPerKind; ++i) {
      if (i % sizes.pp != place.stage) continue;
      kv.layers.push_back(2 * i + 1);
      delta.layers.push_back(2 * i);
    }
    layout.ranks.push_back({{kv, delta}});
  }
  return layout;
}

Memory memory_of(const InstanceLayout& layout, uint32_t seed) {
  std::mt19937 random(seed);
  Memory memory;
  for (const StateLayout& rank : layout.ranks) {
    std::vector<uint8_t>& bytes =
        memory.emplace_back(pool_blocks(rank, layout.pages, layout.page_size, layout.slots).bytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  }
  return memory;
}

std::vector<const void*> starts_of(const Memory& memory) {
  std::vector<const void*> starts;
  for (const auto& bytes : memory) starts.push_back(bytes.data());
  return starts;
}

Grant grant_of(uint64_t epoch, uint64_t room) {
  return {.room = room, .epoch = epoch, .prompt_tokens = 10, .prompt_checksum = 99, .slot = 1, .pages = {5, 0, 2}};
}

std::vector<SourceSum> sums_of(const InstanceLayout& from, const InstanceLayout& to, const Grant& grant,
                               const Memory& memory) {
  const TransferPart part{
      .from_pages = grant.pages, .to_pages = grant.pages, .from_slot = grant.slot, .to_slot = grant.slot};
  std::vector<SourceSum> sums;
  for (int32_t rank = 0; rank < from.sizes.world(); ++rank) {
    if (place_of(from.sizes, rank).dp_group != 0) continue;
    const TransferPlan plan = transfer_plan(from, rank, to, grant.group);
    sums.push_back({rank, bytes_of(plan, part), landed_sum(plan, part, starts_of(memory))});
  }
  return sums;
}

void say(ControlLink& link, const ControlMessage& message) {
  const Status sent = link.send(encode(message));
  EXPECT_TRUE(sent.ok()) << sent.error().message;
}

bool ends(ControlLink& link) {
  return eventually([&] { return !link.recv(100'000).ok(); });
}

}  // namespace hylas::test
