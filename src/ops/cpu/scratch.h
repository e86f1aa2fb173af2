#pragma once
// Scratch: memory that the CPU operators other than matrix products keep between calls, so that a settled engine
// allocates nothing. Made once by OpsCpu; used by the one calling thread and, per index, by the workers of its pool.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "ops/cpu/isa.h"

namespace hylas::cpu {

struct OtherKernels;

// The kernels of an instruction set that this processor has.
const OtherKernels& other_kernels(Isa isa);

// Uninitialised memory of plain values that only ever grows, 64-byte aligned.
template <class T>
class GrowBuffer {
 public:
  T* take(size_t count) {
    if (count > capacity_) {
      data_.reset(static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{64})));
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(T* memory) const { ::operator delete (memory, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> data_;
  size_t capacity_ = 0;
};

// One piece of work of attention or of the delta rule: a head of a row and, for attention, a range of its tokens or a
// split of the context of one.
struct WorkItem {
  int32_t row;
  int32_t head;
  int32_t token_begin;  // within the packed batch
  int32_t token_end;
  int32_t split = -1;  // -1: the whole context
};

// A token that may be drawn.
struct Candidate {
  float logit;
  float weight;  // in proportion to its probability
  int32_t token;
};

struct alignas(64) ThreadScratch {
  GrowBuffer<float> floats;
  GrowBuffer<int32_t> indices;
  GrowBuffer<Candidate> candidates;
};

struct Scratch {
  Scratch(int threads, Isa isa) : kernels(&other_kernels(isa)), threads(static_cast<size_t>(threads)) {}

  const OtherKernels* kernels;
  std::vector<ThreadScratch> threads;
  std::vector<WorkItem> items;
  GrowBuffer<float> splits;      // sums of the attention items of one split
  std::vector<int64_t> offsets;  // of each token's place in the KV pages
};

}  // namespace hylas::cpu
