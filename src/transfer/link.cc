#include "transfer/link.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hylas {

uint64_t write_sum(const void* data, uint64_t bytes, uint64_t identity) {
  return XXH3_64bits_withSeed(data, bytes, identity);
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
