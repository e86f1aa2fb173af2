#pragma once
// The two ceilings of a machine, measured: bytes read from memory per second, and fused multiply-adds per second; by
// the clock and by the processors' time. Measure them in the run whose figures are held against them: a shared
// machine's ceilings move.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "ops/cpu/isa.h"
#include "ops/cpu/thread_pool.h"
#include "tensor/device.h"

namespace hylas::bench {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds that the processors spent on this process: what others do on the machine does not count.
inline double processor_seconds_now() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Seconds of one call of body().
template <class Body>
double seconds_of(Body&& body) {
  double begin = seconds_now();
  body();
  return seconds_now() - begin;
}

// Multiply-adds in 12 independent chains, enough to hide their latency; returns the floating-point operations done. In
// assembly: the compiler would make two operations of one.
template <class Vector>
inline __attribute__((always_inline)) double fma_chains(int64_t rounds, float* sink) {
  Vector sum[12], a = Vector{} + 0.5f;
#pragma GCC unroll 12
  for (Vector& x : sum) x = Vector{} + 1.f;
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (Vector& x : sum) {
#if defined(__x86_64__)
      if constexpr (sizeof(Vector) > 16) {
        asm("vfmadd213ps %1, %1, %0" : "+v"(x) : "v"(a));
        continue;
      }
#endif
      x = x * a + a;
    }
  }
#pragma GCC unroll 12
  for (const Vector& x : sum) sink[0] += x[0];
  return static_cast<double>(rounds) * 12 * 2 * static_cast<double>(sizeof(Vector) / sizeof(float));
}
typedef float Vector4 __attribute__((vector_size(16)));
#if defined(__x86_64__)
typedef float Vector8 __attribute__((vector_size(32)));
typedef float Vector16 __attribute__((vector_size(64)));
__attribute__((target("avx2,fma"))) inline double fma_avx2(int64_t rounds, float* sink) {
  return fma_chains<Vector8>(rounds, sink);
}
__attribute__((target("avx512f"))) inline double fma_avx512(int64_t rounds, float* sink) {
  return fma_chains<Vector16>(rounds, sink);
}
#endif

// Sums 64-bit words: one pass over the memory.
inline uint64_t read_all(const std::byte* memory, int64_t bytes) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 64 <= bytes; i += 64) {
    uint64_t words[8];
    std::memcpy(words, memory + i, sizeof words);
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
    __builtin_prefetch(memory + i + 1024);
  }
  uint64_t sum = 0;
  for (uint64_t x : sums) sum += x;
  return sum;
}

// Best of all measure() calls so far, on every thread of `pool`. Shares are of the same kind of time.
class Roofline {
 public:
  explicit Roofline(cpu::ThreadPool& pool) : pool_(pool), isa_(cpu::choose_isa("auto").value()) {
    memory_ = Buffer::make(*device_, kBytes).value();
    std::memset(memory_.data(), 1, kBytes);
  }
  void measure() {
    measure_read();
    measure_fma();
  }
  double bytes_per_second() const { return static_cast<double>(kBytes) / read_.clock_s; }
  double bytes_per_processor_second() const { return static_cast<double>(kBytes) / read_.processor_s(); }
  double flops() const { return operations_ / fma_.clock_s; }
  double flops_per_processor_second() const { return operations_ / fma_.processor_s(); }

 private:
  static constexpr int64_t kBytes = int64_t{192} << 20;  // several times any last-level cache slice of ours
  static constexpr int64_t kRounds = 200000;

  // Pieces are handed out as the operators hand out theirs, so a thread that was disturbed does not hold up the rest.
  void measure_read() {
    constexpr int64_t kPiece = 1 << 20;
    const auto* bytes = static_cast<const std::byte*>(memory_.data());
    std::vector<uint64_t> sums(static_cast<size_t>(pool_.size()) * 8);
    see(read_, [&] {
      pool_.parallel_items(kBytes / kPiece, [&](int64_t piece, int thread) {
        sums[static_cast<size_t>(thread) * 8] += read_all(bytes + piece * kPiece, kPiece);
      });
    });
    keep(sums[0]);
  }
  void measure_fma() {
    std::vector<float> sinks(static_cast<size_t>(pool_.size()) * 16);
    std::vector<double> done(static_cast<size_t>(pool_.size()) * 8);
    see(fma_, [&] {
      pool_.parallel_items(pool_.size() * 8, [&](int64_t, int thread) {
        done[static_cast<size_t>(thread) * 8] += fma(&sinks[static_cast<size_t>(thread) * 16]);
      });
    });
    operations_ = 0;
    for (double x : done) operations_ += x;
    keep(sinks[0]);
  }
  // The best time by the clock, the mean of the processors' per thread: the system counts that in steps of
  // milliseconds.
  struct Turns {
    double clock_s = 1e30;
    double processor_total_s = 0;
    int count = 0;
    double processor_s() const { return processor_total_s / count; }
  };
  template <class Body>
  void see(Turns& turns, Body&& body) {
    double processor = processor_seconds_now();
    turns.clock_s = std::min(turns.clock_s, seconds_of(body));
    turns.processor_total_s += (processor_seconds_now() - processor) / pool_.size();
    ++turns.count;
  }
  double fma(float* sink) const {
#if defined(__x86_64__)
    if (isa_ == cpu::Isa::kAvx512) return fma_avx512(kRounds, sink);
    if (isa_ == cpu::Isa::kAvx2) return fma_avx2(kRounds, sink);
#endif
    return fma_chains<Vector4>(kRounds, sink);
  }
  template <class T>
  static void keep(T value) {
    asm volatile("" : : "r,m"(value) : "memory");
  }

  cpu::ThreadPool& pool_;
  cpu::Isa isa_;
  std::unique_ptr<Device> device_ = make_cpu_device();
  Buffer memory_;
  Turns read_;
  Turns fma_;
  double operations_ = 0;  // of one turn
};

}  // namespace hylas::bench
