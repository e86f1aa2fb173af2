#pragma once
// KernelTimes: how long a kernel of one kind takes a GPU. Its data sheet says what cannot be beaten; what our kernels
// lose of it are the constants of KernelCosts, each measured once, on an H200 (docs/simulator.md says on which kernel).
#include <cstdint>
#include <string>

#include "base/result.h"

namespace hylas {

// Of the data sheet, per second; dense arithmetic.
struct GpuKind {
  const char* name;
  int32_t multiprocessors;
  double fp8_flops, bf16_flops;
  double memory_bytes;
  double link_bytes;   // NVLink, in one direction
  double clock_share;  // measured, not in the sheet: of a product by itself, what products of a run that lasts reach
  int64_t capacity_bytes;
};
// H20, H100 or H200, in any case. kInvalid names them.
Result<GpuKind> find_gpu(const std::string& name);

// Microseconds, and shares of what the data sheet says.
struct KernelCosts {
  bool real = true;        // products in whole tiles and rounds of all multiprocessors, by the clock of a busy GPU
  double launch_us = 2.3;  // until a kernel's first bytes are there and the next one may begin
  // Memory: weights and logits; states and pages, in pieces; rows that a kernel between two products takes and gives.
  double stream_share = 0.875, pieces_share = 0.75, pass_share = 0.56;
  // FP8 products: of a tile of 128 x 128, beyond its multiplications: its end, and each 128 of its inputs.
  double tile_us = 1.0, step_us = 0.10;
  double bf16_share = 0.80;
  double attention_us = 1.5;                        // of 128 queries and 64 keys, beyond their multiplications
  double delta_us = 2.1;                            // of 64 tokens of a head, the same
  double few_experts_us = 8;                        // experts of few rows: lists, first rows, down behind gate and up
  double sum_us = 7, sum_share = 0.73;              // a sum over ranks, and rows between them: meetings, link
  double exchange_us = 17, exchange_share = 0.475;  // to the experts and back

  // A GPU that loses nothing.
  static KernelCosts bound();
};

// A product of `rows` rows, all sizes in elements.
struct ProductShape {
  double rows = 0, outputs = 0, inputs = 0;
};

// Rows of (token, expert) pairs, those of an expert one behind the other, from whole tiles on.
struct ExpertRows {
  double touched = 0;  // experts with rows
  double used = 0;     // tiles with rows
  double tile_rows = 128;
};

class KernelTimes {
 public:
  KernelTimes(const GpuKind& gpu, const KernelCosts& costs)
      : gpu_(gpu), costs_(costs), clock_(costs.real ? gpu.clock_share : 1) {}

  const KernelCosts& costs() const { return costs_; }
  const GpuKind& gpu() const { return gpu_; }
  // Each a kernel of its own, microseconds.
  double fp8_product_us(const ProductShape& shape) const;
  double bf16_product_us(const ProductShape& shape) const;
  double expert_product_us(const ExpertRows& rows, double outputs, double inputs) const;
  double pass_us(double bytes) const { return memory_us(bytes, costs_.pass_share); }
  double pieces_us(double bytes) const { return memory_us(bytes, costs_.pieces_share); }
  double stream_us(double bytes) const { return memory_us(bytes, costs_.stream_share); }
  // Prefill: `pairs` of (token, earlier token), `columns` of queries.
  double attention_us(double pairs, double columns) const;
  // Prefill, keys and values of 128: tiles of 64 tokens of all rows, of the longest row, and value heads. A block has a
  // head of a row, tile after tile.
  double delta_rule_us(double tiles, double longest, double heads) const;
  // Each of `ranks` has a partial sum of `bytes` and wants all of the whole.
  double sum_us(double bytes, int32_t ranks) const;
  // The same onto a residual of `residual_bytes` at every rank, which is what goes back.
  double onto_us(double partial_bytes, double residual_bytes, int32_t ranks) const;
  // Of which every rank has a part and wants all.
  double gather_us(double bytes, int32_t ranks) const;
  double send_us(double bytes) const;
  double exchange_us(double bytes) const;

  // ceil(n / unit) tiles, where tiles are whole.
  double tiles(double n, double unit) const;
  // Tiles that `rows` rows of `experts` experts take, if all are equally likely.
  double expert_tiles(double rows, double experts, double tile_rows) const;

 private:
  double memory_us(double bytes, double share) const {
    return costs_.launch_us + bytes / (gpu_.memory_bytes * share) * 1e6;
  }
  double tile_us(double inputs) const;
  double rounds(double tiles) const;

  GpuKind gpu_;
  KernelCosts costs_;
  double clock_;
};

}  // namespace hylas
