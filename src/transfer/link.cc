#include "transfer/link.h"

#define XXH_STATIC_LINKING_ONLY  // the state has a size
#include <emmintrin.h>
#include <xxh_x86dispatch.h>  // xxhash.h for the widest vectors of this processor

#include <algorithm>
#include <cstring>

namespace hylas {

uint64_t write_sum(const void* data, uint64_t bytes, uint64_t identity) {
  return XXH3_64bits_withSeed(data, bytes, identity);
}

namespace {

// Past the caches, of which these bytes would fill the most: a line that is written whole need not be read first. Asks
// for the next block of `from`, which is summed before it is copied.
constexpr uint64_t kBlockBytes = 4 << 10;
void stream(std::byte* to, const std::byte* from, uint64_t bytes) {
  constexpr uint64_t kLine = 64, kVector = sizeof(__m128i);
  const uint64_t before = std::min(bytes, -reinterpret_cast<uintptr_t>(to) % kLine);
  std::memcpy(to, from, before);
  uint64_t at = before;
  for (; at + kLine <= bytes; at += kLine) {
    _mm_prefetch(from + at + kBlockBytes, _MM_HINT_T0);
    for (uint64_t v = at; v < at + kLine; v += kVector) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + v), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + v)));
    }
  }
  std::memcpy(to + at, from + at, bytes - at);
}

}  // namespace

uint64_t copy_and_sum(void* to, const void* from, uint64_t bytes, uint64_t identity) {
  XXH3_state_t sum{};
  XXH3_64bits_reset_withSeed(&sum, identity);
  for (uint64_t at = 0; at < bytes; at += kBlockBytes) {
    const auto* block = static_cast<const std::byte*>(from) + at;
    const uint64_t count = std::min(kBlockBytes, bytes - at);
    XXH3_64bits_update(&sum, block, count);
    stream(static_cast<std::byte*>(to) + at, block, count);
  }
  _mm_sfence();  // who hears that the bytes are there finds them
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
