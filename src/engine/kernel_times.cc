#include "engine/kernel_times.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "ops/cuda_ops.h"
#include "ops/fp8_plan.h"

namespace hylas {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9;
constexpr int64_t kGigabyte = 1'000'000'000;

constexpr std::array kGpus = {
    GpuKind{"H20", 78, 296 * kTera, 148 * kTera, 4.0 * kTera, 450 * kGiga, 1, 96 * kGigabyte},
    GpuKind{"H100", 132, 1979 * kTera, 989 * kTera, 3.35 * kTera, 450 * kGiga, 0.8, 80 * kGigabyte},
    GpuKind{"H200", 132, 1979 * kTera, 989 * kTera, 4.8 * kTera, 450 * kGiga, 0.8, 141 * kGigabyte},
};

constexpr double kTile = 128, kBf16Bytes = 2;
constexpr double kDeltaTile = 64, kDeltaDim = 128;
constexpr double kQueries = 128, kKeys = 64, kAttentionDim = 256;
constexpr double kStreamRows = 128;  // up to which a bf16 product is as fast as its weights come
// Up to so many rows no product is made of tiles.
constexpr double kFewRows = static_cast<double>(CudaFp8Options().rows_min - 1);

double work_share(double tile_rows, double tile_outputs) {
  return static_cast<double>(fp8_tile_work(std::lround(tile_rows), std::lround(tile_outputs))) / 100;
}

}  // namespace

Result<GpuKind> find_gpu(const std::string& name) {
  std::string upper = name, known;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const GpuKind& gpu : kGpus) {
    if (upper == gpu.name) return gpu;
    known += known.empty() ? gpu.name : fmt::format(", {}", gpu.name);
  }
  return error(ErrorCode::kInvalid, "--gpu {}: must be one of {}", name, known);
}

KernelCosts KernelCosts::bound() {
  return {.real = false,
          .launch_us = 0,
          .stream_share = 1,
          .pieces_share = 1,
          .pass_share = 1,
          .tile_us = 0,
          .step_us = 0,
          .bf16_share = 1,
          .attention_us = 0,
          .delta_us = 0,
          .few_experts_us = 0,
          .sum_us = 0,
          .sum_share = 1,
          .exchange_us = 0,
          .exchange_share = 1};
}

double KernelTimes::tiles(double n, double unit) const { return costs_.real ? std::ceil(n / unit) : n / unit; }

// Tiles that a multiprocessor does one after the other. The kernels have kFp8Blocks blocks on any GPU, one on a
// multiprocessor.
double KernelTimes::rounds(double tiles) const {
  if (!costs_.real) return tiles / gpu_.multiprocessors;
  return std::ceil(tiles / kFp8Blocks) * std::ceil(double{kFp8Blocks} / gpu_.multiprocessors);
}

double KernelTimes::tile_us(double inputs) const {
  const double multiply_us = 2 * kTile * kTile * inputs / (gpu_.fp8_flops / gpu_.multiprocessors) * 1e6;
  return (costs_.tile_us + multiply_us + inputs / kFp8Depth * costs_.step_us) / clock_;
}

double KernelTimes::fp8_product_us(const ProductShape& s) const {
  const double bytes = s.outputs * s.inputs + s.rows * (s.inputs + kBf16Bytes * s.outputs);
  const double memory = stream_us(bytes);
  if (costs_.real && s.rows <= kFewRows) return memory;
  double tile_rows = kTile, tile_outputs = kTile;
  if (costs_.real) {
    const Fp8Tile tile = fp8_dense_tile(static_cast<int64_t>(s.rows), static_cast<int64_t>(s.outputs));
    tile_rows = tile.rows;
    tile_outputs = tile.outputs;
  }
  const double count = tiles(s.rows, tile_rows) * tiles(s.outputs, tile_outputs);
  const double share = costs_.real ? work_share(tile_rows, tile_outputs) : 1;
  return std::max(memory, costs_.launch_us + rounds(count) * tile_us(s.inputs) * share);
}

double KernelTimes::bf16_product_us(const ProductShape& s) const {
  const double memory = stream_us(kBf16Bytes * (s.outputs * s.inputs + s.rows * (s.inputs + s.outputs)));
  if (costs_.real && s.rows <= kStreamRows) return memory;
  const double flops = gpu_.bf16_flops * costs_.bf16_share * clock_;
  return std::max(memory, costs_.launch_us + 2 * s.rows * s.outputs * s.inputs / flops * 1e6);
}

double KernelTimes::expert_product_us(const ExpertRows& rows, double outputs, double inputs) const {
  const double share = costs_.real ? work_share(rows.tile_rows, kTile) : rows.tile_rows / kTile;
  const double across = tiles(outputs, kTile);
  const double work = costs_.launch_us + rounds(rows.used * across) * tile_us(inputs) * share;
  const double out = rows.used * rows.tile_rows * outputs * kBf16Bytes;
  const double memory = stream_us(rows.touched * outputs * inputs + rows.used * rows.tile_rows * inputs + out);
  // An expert's weights are read for few tiles, so both are about equally long and hide each other only in part.
  return costs_.real ? std::hypot(work, memory) : std::max(work, memory);
}

double KernelTimes::attention_us(double pairs, double columns) const {
  const double blocks = pairs * columns / kAttentionDim / (kQueries * kKeys);  // of (queries, keys), of all heads
  const double multiply_us = 4 * kQueries * kKeys * kAttentionDim / (gpu_.bf16_flops / gpu_.multiprocessors) * 1e6;
  return costs_.launch_us + blocks / gpu_.multiprocessors * (multiply_us + costs_.attention_us);
}

// Multiply-adds count twice. Products inside a tile of 64 tokens, with the state, and the triangular inverse.
double KernelTimes::delta_rule_us(double tiles, double longest, double heads) const {
  const double inside = 4 * 2 * kDeltaTile * kDeltaTile * kDeltaDim, state = 3 * 2 * kDeltaTile * kDeltaDim * kDeltaDim;
  const double flops = inside + state + kDeltaTile * kDeltaTile * kDeltaTile * 2 / 3;
  const double each = flops / (gpu_.bf16_flops / gpu_.multiprocessors) * 1e6 + costs_.delta_us;
  const double side_by_side = tiles * heads / gpu_.multiprocessors;
  return costs_.launch_us + each * (costs_.real ? std::max(longest, side_by_side) : side_by_side);
}

double KernelTimes::send_us(double bytes) const {
  return costs_.sum_us + bytes / (gpu_.link_bytes * costs_.sum_share) * 1e6;
}

// Reduce-scatter and all-gather: each rank sends (n - 1) / n of the rows twice.
double KernelTimes::sum_us(double bytes, int32_t ranks) const {
  return ranks == 1 ? 0 : send_us(2.0 * (ranks - 1) / ranks * bytes);
}

double KernelTimes::onto_us(double partial_bytes, double residual_bytes, int32_t ranks) const {
  return send_us((ranks - 1.0) / ranks * (partial_bytes + residual_bytes));
}

double KernelTimes::gather_us(double bytes, int32_t ranks) const {
  return ranks == 1 ? 0 : send_us((ranks - 1.0) / ranks * bytes);
}

double KernelTimes::exchange_us(double bytes) const {
  return costs_.exchange_us + bytes / (gpu_.link_bytes * costs_.exchange_share) * 1e6;
}

// The rows of an expert are nearly normal, with their mean as variance: a tile more for each multiple that they exceed.
double KernelTimes::expert_tiles(double rows, double experts, double tile_rows) const {
  if (!costs_.real) return rows / tile_rows;
  const double mean = rows / experts;
  double all = 0;
  for (int i = 0;; ++i) {
    const double more = 0.5 * std::erfc((i * tile_rows + 0.5 - mean) / std::sqrt(2 * mean));
    if (more < 1e-6) return all * experts;
    all += more;
  }
}

}  // namespace hylas
