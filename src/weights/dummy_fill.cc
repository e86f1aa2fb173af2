#include "weights/dummy_fill.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include "base/thread.h"

namespace hylas {
namespace {

constexpr float kMatrixDeviation = 0.02f;
constexpr float kConvDeviation = 0.3f;
constexpr int kStep = 1024;                   // elements whose hashes are made together
constexpr int64_t kThreadElements = 1 << 20;  // fewer are not worth a thread
constexpr int kSums = HashedFill::kTable;     // of four bytes: close to a normal distribution
constexpr double kSumMean = 510.0;
constexpr double kSumDeviation = 147.80;  // sqrt(4 * (256^2 - 1) / 12)
constexpr double kDeviationsMax = kSumMean / kSumDeviation;
constexpr float kFp8Max = 448.f;

uint32_t hash32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x21f0aaadu;
  x ^= x >> 15;
  x *= 0x735a2d97u;
  x ^= x >> 15;
  return x;
}

// Of the elements whose index has these high 32 bits.
uint32_t seed_of(std::string_view name, uint32_t high) {
  uint64_t hash = 0xcbf29ce484222325u ^ high;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash32(static_cast<uint32_t>(hash >> 32)) ^ hash32(static_cast<uint32_t>(hash));
}

uint32_t hash_of(std::string_view name, int64_t index) {
  return hash32(seed_of(name, static_cast<uint32_t>(index >> 32)) + static_cast<uint32_t>(index) * 0x9e3779b1u);
}

// sums[i]: the sum of the four bytes of the hash of element begin + i.
void hash_sums(uint32_t seed, uint32_t begin, uint16_t* sums) {
  for (uint32_t i = 0; i < kStep; ++i) {
    const uint32_t hash = hash32(seed + (begin + i) * 0x9e3779b1u);
    const uint32_t pairs = (hash & 0x00ff00ffu) + ((hash >> 8) & 0x00ff00ffu);
    sums[i] = static_cast<uint16_t>((pairs & 0xffffu) + (pairs >> 16));
  }
}

template <class T>
void fill_range(std::string_view name, const std::array<T, kSums>& values, int64_t begin, T* out, int64_t count) {
  uint16_t sums[kStep];
  for (int64_t done = 0; done < count;) {
    const int64_t first = begin + done;
    const int64_t step_begin = first / kStep * kStep;
    const auto skip = static_cast<int>(first - step_begin);
    const int64_t step = std::min<int64_t>(kStep - skip, count - done);
    hash_sums(seed_of(name, static_cast<uint32_t>(step_begin >> 32)), static_cast<uint32_t>(step_begin), sums);
    for (int64_t i = 0; i < step; ++i) out[done + i] = values[sums[skip + i]];
    done += step;
  }
}

template <class T>
void fill_parallel(std::string_view name, const std::array<T, kSums>& values, int64_t begin, int64_t pitch,
                   const Tensor& out, int threads) {
  // A window of whole rows is one long one.
  const bool flat = out.dim(1) == pitch;
  const int64_t rows = flat ? 1 : out.dim(0);
  const int64_t columns = flat ? out.elements() : out.dim(1);
  // Thread `part` of `parts` fills the elements [from, to) of the rows laid end to end.
  const auto fill = [&](int64_t from, int64_t to) {
    while (from < to) {
      const int64_t row = from / columns, column = from % columns;
      const int64_t count = std::min(columns - column, to - from);
      fill_range(name, values, begin + row * pitch + column, out.as<T>() + from, count);
      from += count;
    }
  };
  const int64_t count = rows * columns;
  const int64_t parts = std::clamp<int64_t>(count / kThreadElements, 1, threads);
  std::vector<std::jthread> workers;
  for (int64_t part = 1; part < parts; ++part) {
    const int64_t from = count * part / parts, to = count * (part + 1) / parts;
    workers.push_back(start_thread("hylas-dummy", [&fill, from, to] { fill(from, to); }));
  }
  fill(0, count / parts);
}

double deviations(int sum) { return (sum - kSumMean) / kSumDeviation; }

bool is_decay(DummyKind kind) { return kind == DummyKind::kLogDecay || kind == DummyKind::kTimeStep; }

std::array<uint16_t, kSums> bf16_values(DummyKind kind) {
  const double mean = kind == DummyKind::kGatedNorm ? 1 : 0;
  const double deviation = kind == DummyKind::kConv ? kConvDeviation : kMatrixDeviation;
  std::array<uint16_t, kSums> values;
  for (int sum = 0; sum < kSums; ++sum)
    values[sum] = f32_to_bf16(static_cast<float>(mean + deviation * deviations(sum)));
  return values;
}

std::array<uint8_t, kSums> fp8_values() {
  std::array<uint8_t, kSums> values;
  for (int sum = 0; sum < kSums; ++sum) {
    values[sum] = f32_to_f8e4m3(static_cast<float>(deviations(sum) / kDeviationsMax * kFp8Max));
  }
  return values;
}

// The two vectors of a linear layer that set how fast its state decays: small, so element by element.
void fill_decay(const std::string& name, DummyKind kind, int64_t begin, const Tensor& out) {
  for (int64_t i = 0; i < out.elements(); ++i) {
    const double uniform = (hash_of(name, begin + i) + 0.5) / 4294967296.0;
    const double step = std::exp(std::log(1e-3) + uniform * std::log(100.0));
    const double value =
        kind == DummyKind::kLogDecay ? std::log(1 + 15 * uniform) : step + std::log(-std::expm1(-step));
    out.as<uint16_t>()[i] = f32_to_bf16(static_cast<float>(value));
  }
}

}  // namespace

DummyKind dummy_kind(const std::string& name) {
  if (name.ends_with("A_log")) return DummyKind::kLogDecay;
  if (name.ends_with("dt_bias")) return DummyKind::kTimeStep;
  if (name.ends_with("linear_attn.norm.weight")) return DummyKind::kGatedNorm;
  if (name.ends_with("conv1d.weight")) return DummyKind::kConv;
  const bool norm = name.ends_with("norm.weight") || name.find("_norm_") != name.npos;
  return norm ? DummyKind::kNorm : DummyKind::kMatrix;
}

float dummy_scale(const std::string& weight_name, int64_t block) {
  const float nominal = kMatrixDeviation * static_cast<float>(kDeviationsMax) / kFp8Max;
  const float uniform = static_cast<float>(hash_of(weight_name + "_scale", block) >> 8) / 16777216.f;
  return nominal * (0.75f + 0.5f * uniform);
}

void fill_dummy(const std::string& name, int64_t begin, int64_t pitch, const Tensor& out, int threads) {
  if (out.dtype == DType::kF8E4M3) return fill_parallel(name, fp8_values(), begin, pitch, out, threads);
  const DummyKind kind = dummy_kind(name);
  if (!is_decay(kind)) return fill_parallel(name, bf16_values(kind), begin, pitch, out, threads);
  HYLAS_CHECK(out.dim(1) == pitch, "a vector has no columns to choose from");
  fill_decay(name, kind, begin, out);
}

bool fill_dummy_on(Device& device, const std::string& name, int64_t begin, int64_t pitch, const Tensor& out) {
  const bool fp8 = out.dtype == DType::kF8E4M3;
  const DummyKind kind = dummy_kind(name);
  if (!fp8 && (is_decay(kind) || out.dtype != DType::kBF16)) return false;
  std::array<uint16_t, kSums> table;
  if (fp8) {
    std::ranges::copy(fp8_values(), table.begin());
  } else {
    table = bf16_values(kind);
  }
  // One seed goes as far as 2^32 elements: rows up to the first that reaches further are one window.
  const int64_t columns = out.dim(1);
  const auto seed_index = [](int64_t element) { return static_cast<uint32_t>(element >> 32); };
  for (int64_t row = 0, next = 0; row < out.dim(0) && columns > 0; row = next) {
    const int64_t first = begin + row * pitch;
    for (next = row; next < out.dim(0) && seed_index(begin + next * pitch + columns - 1) == seed_index(first);) ++next;
    if (next == row) return false;
    const HashedFill fill{.out = static_cast<std::byte*>(out.data) + row * columns * dtype_bytes(out.dtype),
                          .rows = next - row,
                          .columns = columns,
                          .pitch = pitch,
                          .first = static_cast<uint32_t>(first),
                          .element_bytes = static_cast<int>(dtype_bytes(out.dtype)),
                          .seed = seed_of(name, seed_index(first)),
                          .table = table.data()};
    if (!device.fill_hashed(fill)) return false;
  }
  return true;
}

}  // namespace hylas
