#pragma once
// The two ceilings of a machine, measured: bytes read from memory per second, and fused multiply-adds per second.
// Measure them in the run whose figures are held against them: a shared machine's ceilings move.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "ops/cpu/isa.h"
#include "ops/cpu/thread_pool.h"
#include "tensor/device.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

// Multiply-adds in 12 independent chains, enough to hide their latency; returns the floating-point operations done.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) inline double fma_avx2(int64_t rounds, float* sink) {
  __m256 sum[12];
  for (auto& x : sum) x = _mm256_set1_ps(1.f);
  __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& x : sum) x = _mm256_fmadd_ps(x, a, b);
  }
  for (auto& x : sum) sink[0] += _mm256_cvtss_f32(x);
  return static_cast<double>(rounds) * 12 * 8 * 2;
}
__attribute__((target("avx512f"))) inline double fma_avx512(int64_t rounds, float* sink) {
  __m512 sum[12];
  for (auto& x : sum) x = _mm512_set1_ps(1.f);
  __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& x : sum) x = _mm512_fmadd_ps(x, a, b);
  }
  for (auto& x : sum) sink[0] += _mm512_cvtss_f32(x);
  return static_cast<double>(rounds) * 12 * 16 * 2;
}
#endif
inline double fma_portable(int64_t rounds, float* sink) {
  float sum[48];
  std::fill(std::begin(sum), std::end(sum), 1.f);
  for (int64_t i = 0; i < rounds; ++i) {
    for (float& x : sum) x = x * 0.999f + 0.001f;
  }
  for (float x : sum) sink[0] += x;
  return static_cast<double>(rounds) * 48 * 2;
}

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

// Best of all measure() calls so far, on every thread of `pool`.
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
  double bytes_per_second() const { return bytes_per_second_; }
  double flops() const { return flops_; }

 private:
  static constexpr int64_t kBytes = int64_t{192} << 20;  // several times any last-level cache slice of ours
  static constexpr int64_t kRounds = 200000;

  // Pieces are handed out as the operators hand out theirs, so a thread that was disturbed does not hold up the rest.
  void measure_read() {
    constexpr int64_t kPiece = 1 << 20;
    const auto* bytes = static_cast<const std::byte*>(memory_.data());
    std::vector<uint64_t> sums(static_cast<size_t>(pool_.size()) * 8);
    double seconds = seconds_of([&] {
      pool_.parallel_items(kBytes / kPiece, [&](int64_t piece, int thread) {
        sums[static_cast<size_t>(thread) * 8] += read_all(bytes + piece * kPiece, kPiece);
      });
    });
    keep(sums[0]);
    bytes_per_second_ = std::max(bytes_per_second_, static_cast<double>(kBytes) / seconds);
  }
  void measure_fma() {
    std::vector<float> sinks(static_cast<size_t>(pool_.size()) * 16);
    std::vector<double> done(static_cast<size_t>(pool_.size()) * 8);
    double seconds = seconds_of([&] {
      pool_.parallel_items(pool_.size() * 8, [&](int64_t, int thread) {
        done[static_cast<size_t>(thread) * 8] += fma(&sinks[static_cast<size_t>(thread) * 16]);
      });
    });
    double total = 0;
    for (double x : done) total += x;
    keep(sinks[0]);
    flops_ = std::max(flops_, total / seconds);
  }
  double fma(float* sink) const {
#if defined(__x86_64__)
    if (isa_ == cpu::Isa::kAvx512) return fma_avx512(kRounds, sink);
    if (isa_ == cpu::Isa::kAvx2) return fma_avx2(kRounds, sink);
#endif
    return fma_portable(kRounds, sink);
  }
  template <class T>
  static void keep(T value) {
    asm volatile("" : : "r,m"(value) : "memory");
  }

  cpu::ThreadPool& pool_;
  cpu::Isa isa_;
  std::unique_ptr<Device> device_ = make_cpu_device();
  Buffer memory_;
  double bytes_per_second_ = 0;
  double flops_ = 0;
};

}  // namespace hylas::bench
