#pragma once
// Which rows, outputs and weights a block of a product works on.
#include "ops/cuda/element.cuh"
#include "ops/cuda/gemm.h"

namespace hylas::cuda {

struct GemmTile {
  WeightView weight;
  WeightView other;
  View out;
  int64_t row = 0;  // first of the tile
  int rows = 0;     // 0: there is nothing to do
  int64_t output = 0;
  int outputs = 0;
  int64_t k_begin = 0;
  int64_t k_end = 0;
};

// Block `column` over outputs, `row_block` over rows or runs; blockIdx.z over slices.
__device__ __forceinline__ GemmTile gemm_tile(const Product& p, int column, int row_block, int tile_rows,
                                              int tile_outputs) {
  GemmTile tile;
  tile.weight = p.weight;
  tile.out = p.out;
  int64_t outputs = p.outputs;
  for (int i = 0; i < p.parts; ++i) {
    tile.weight = p.part[i].weight;
    tile.out = p.part[i].out;
    outputs = p.part[i].outputs;
    const int columns = static_cast<int>((outputs + tile_outputs - 1) / tile_outputs);
    if (column < columns) break;
    column -= columns;
  }
  tile.output = static_cast<int64_t>(column) * tile_outputs;
  tile.outputs = static_cast<int>(min(static_cast<int64_t>(tile_outputs), outputs - tile.output));
  tile.k_begin = p.slice_begin[blockIdx.z];
  tile.k_end = p.slice_begin[blockIdx.z + 1];
  if (!p.weights) {
    tile.other = p.other;
    tile.row = static_cast<int64_t>(row_block) * tile_rows;
    tile.rows = static_cast<int>(min(static_cast<int64_t>(tile_rows), p.rows - tile.row));
    return tile;
  }
  if (row_block >= *p.run_count) return tile;
  const RowRun run = p.runs[row_block];
  tile.weight = p.weights[run.expert];
  if (p.paired) tile.other = p.others[run.expert];
  tile.row = run.begin;
  tile.rows = run.end - run.begin;
  return tile;
}

__device__ __forceinline__ int64_t x_row(const Product& p, int64_t row) { return p.x_index ? p.x_index[row] : row; }
// Element of the tile's `out` where output 0 of a row and slice lands.
__device__ __forceinline__ int64_t out_at(const Product& p, const GemmTile& tile, int64_t row) {
  return blockIdx.z * p.slice_stride + (p.out_index ? p.out_index[row] : row) * tile.out.stride;
}

}  // namespace hylas::cuda
