#include "transfer/link.h"

#define XXH_STATIC_LINKING_ONLY  // the state has a size
#include <xxh_x86dispatch.h>     // xxhash.h for the widest vectors of this processor

#include <algorithm>
#include <cstring>

namespace hylas {

uint64_t write_sum(const void* data, uint64_t bytes, uint64_t identity) {
  return XXH3_64bits_withSeed(data, bytes, identity);
}

// Block by block: what was summed is still in the cache when it is copied.
uint64_t copy_and_sum(void* to, const void* from, uint64_t bytes, uint64_t identity) {
  constexpr uint64_t kBlockBytes = 32 << 10;
  if (bytes <= kBlockBytes) {
    std::memcpy(to, from, bytes);
    return write_sum(from, bytes, identity);
  }
  XXH3_state_t sum{};
  XXH3_64bits_reset_withSeed(&sum, identity);
  for (uint64_t at = 0; at < bytes; at += kBlockBytes) {
    const auto* block = static_cast<const std::byte*>(from) + at;
    const uint64_t count = std::min(kBlockBytes, bytes - at);
    XXH3_64bits_update(&sum, block, count);
    std::memcpy(static_cast<std::byte*>(to) + at, block, count);
  }
  return XXH3_64bits_digest(&sum);
}

Status check_inside(const Write& write, std::span<const uint64_t> region_bytes) {
  if (write.region >= 0 && static_cast<size_t>(write.region) < region_bytes.size()) {
    const uint64_t bytes = region_bytes[write.region];
    if (write.offset <= bytes && write.bytes <= bytes - write.offset) return {};
  }
  return error(ErrorCode::kInvalid, "{} bytes at {} of region {}: the peer has no such memory", write.bytes,
               write.offset, write.region);
}

}  // namespace hylas
