#pragma once
// Arena: a bump allocator over one buffer, sized at start-up; activations of a step live in it.
#include <cstddef>
#include <cstdint>

#include "tensor/tensor.h"

namespace hylas {

// Not thread-safe: one per rank. allocate() aborts when the arena is too small: the size is a plan, not a guess.
class Arena {
 public:
  Arena() = default;
  Arena(void* memory, size_t bytes) : memory_(static_cast<std::byte*>(memory)), bytes_(bytes) {}

  // An arena without memory that only counts: its bytes_peak() is what a real one needs for the same calls.
  static Arena counting() { return Arena(nullptr, SIZE_MAX); }

  // 64-byte aligned, uninitialised.
  Tensor allocate(DType dtype, std::initializer_list<int64_t> dims);
  size_t mark() const { return used_; }
  void reset(size_t mark = 0) { used_ = mark; }
  size_t bytes_peak() const { return peak_; }

 private:
  std::byte* memory_ = nullptr;
  size_t bytes_ = 0;
  size_t used_ = 0;
  size_t peak_ = 0;
};

// Gives back, at the end of a scope, everything allocated in it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.reset(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace hylas
