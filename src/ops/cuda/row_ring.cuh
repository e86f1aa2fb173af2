#pragma once
// The weights' way in row_layers.cu: pieces of 16 KiB in the order in which the block's warps want them, as many ahead
// as shared memory holds, however the blocks wait for each other meanwhile.
#include "ops/cuda/bulk_copy.cuh"
#include "ops/cuda/element.cuh"

namespace hylas::cuda {

// Of a block: warps that multiply, then one that fetches, one that hands out what comes first, two that renew a state.
constexpr int kRowWarps = 8, kRowThreads = 32 * kRowWarps;
constexpr int kFetchWarp = kRowWarps, kHandWarp = kFetchWarp + 1, kRenewWarp = kHandWarp + 1, kRenewWarps = 2;
constexpr int kBlockThreads = 32 * (kRenewWarp + kRenewWarps);
constexpr int kPieceBytes = 16 << 10, kPieceScales = 16;
constexpr int kGridBlocks = 128;

template <int kSlots>
struct RowSlots {
  static constexpr int kCount = kSlots;
  alignas(128) unsigned char data[kSlots][kPieceBytes];
  alignas(16) float scale[kSlots][kPieceScales];
  alignas(8) uint64_t full[kSlots], empty[kSlots];

  // One thread, before the block's barrier.
  __device__ void make() {
    for (int i = 0; i < kSlots; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, kRowWarps);
    }
  }
};

// `bytes` of global memory that nobody will want again in this step; both at multiples of 16.
__device__ __forceinline__ void copy_piece(void* to, const void* from, uint32_t bytes, uint64_t* barrier,
                                           uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}

// The fetching side: one warp, whose lanes have a piece each of as many as are fetched at once.
template <class Slots>
struct RowFetch {
  Slots& slots;
  Turns turns;  // the lane's, as many slots on as its number
  uint64_t policy;
  __device__ explicit RowFetch(Slots& s) : slots(s), turns{s.full, s.empty, Slots::kCount}, policy(read_once()) {
    turns.at = threadIdx.x % 32 % Slots::kCount;
    turns.round = threadIdx.x % 32 / Slots::kCount % 2;
  }
  // The next slot, empty; `bytes` will come.
  __device__ __forceinline__ void begin(uint32_t bytes) const {
    turns.wait_empty();
    barrier_arrive_expecting(turns.full + turns.at, bytes);
  }
  __device__ __forceinline__ void data(int at, const void* from, uint32_t bytes) const {
    copy_piece(slots.data[turns.at] + at, from, bytes, turns.full + turns.at, policy);
  }
  __device__ __forceinline__ void scale(int at, const float* from, uint32_t count) const {
    copy_piece(slots.scale[turns.at] + at, from, count * sizeof(float), turns.full + turns.at, policy);
  }
  // All lanes: fetch(i) of as many pieces, at most all slots.
  template <class Fetch>
  __device__ __forceinline__ void pieces(int count, Fetch fetch) {
    const int lane = threadIdx.x % 32;
    if (lane < count) fetch(lane);
    turns.at += count;
    if (turns.at >= Slots::kCount) {
      turns.at -= Slots::kCount;
      turns.round ^= 1;
    }
    __syncwarp();
  }
};

// The working side: all lanes of every working warp take every slot.
template <class Slots>
struct RowTake {
  Slots& slots;
  Turns turns;
  __device__ explicit RowTake(Slots& s) : slots(s), turns{s.full, s.empty, Slots::kCount} {}
  __device__ __forceinline__ void begin() const { turns.wait_full(); }
  __device__ __forceinline__ const unsigned char* data() const { return slots.data[turns.at]; }
  __device__ __forceinline__ const float* scale() const { return slots.scale[turns.at]; }
  // So many pieces behind this one, for who wants several at once.
  __device__ __forceinline__ RowTake behind(int pieces) const {
    RowTake other = *this;
    other.turns.at += pieces;
    if (other.turns.at >= Slots::kCount) {
      other.turns.at -= Slots::kCount;
      other.turns.round ^= 1;
    }
    return other;
  }
  // What the warp wanted is in its registers.
  __device__ __forceinline__ void end() {
    turns.arrive(turns.empty);
    turns.next();
  }
};

// The multiplying warps.
__device__ __forceinline__ void row_sync() { asm volatile("bar.sync 1, %0;" ::"n"(kRowThreads) : "memory"); }

// Barriers of some warps that say something, and others that wait for it.
template <int kId_, int kWarps>
struct RowSignal {
  __device__ __forceinline__ static void say() {
    asm volatile("bar.arrive %0, %1;" ::"n"(kId_), "n"(32 * kWarps) : "memory");
  }
  __device__ __forceinline__ static void wait() {
    asm volatile("bar.sync %0, %1;" ::"n"(kId_), "n"(32 * kWarps) : "memory");
  }
};
using RenewSync = RowSignal<2, kRenewWarps>;
// Sums of first products are there.
using HeadSums = RowSignal<3, kRowWarps + 1>;
using ValueSums = RowSignal<4, kRowWarps + kRenewWarps>;
using GateSums = RowSignal<5, kRowWarps + 1>;
using GatesMade = RowSignal<6, 1 + kRenewWarps>;
// What others hand out will be there soon, since this block is as far: before, nobody looks.
using ResultsSoon = RowSignal<7, kRowWarps + kRenewWarps>;
using LogitsSoon = RowSignal<8, kRowWarps + 1>;

}  // namespace hylas::cuda
