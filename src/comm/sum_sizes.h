#pragma once
// Which sums over GPUs are made in which way; the simulator asks too.
#include <cstdint>

namespace hylas {

// Elements from other ranks: up to here every rank reads and adds all of them, of more each sums a part.
constexpr int64_t kReadAllMax = int64_t{512} << 10;

// How many ranks can add their sums onto rows (Comm::add_onto).
constexpr bool takes_onto(int64_t ranks) { return ranks == 2 || ranks == 4 || ranks == 8 || ranks == 16; }

// Whether GPUs of their own do, with so many elements of each.
constexpr bool sums_go_onto(int64_t elements, int64_t ranks) {
  return takes_onto(ranks) && elements * (ranks - 1) > kReadAllMax;
}

}  // namespace hylas
