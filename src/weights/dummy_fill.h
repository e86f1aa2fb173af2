#pragma once
// Values of dummy weights: a function of tensor name and element index only.
#include <cstdint>
#include <string>

#include "tensor/device.h"
#include "tensor/tensor.h"

namespace hylas {

// What the values of a tensor look like, by its name.
enum class DummyKind : uint8_t {
  kMatrix,     // mean 0, deviation 0.02
  kConv,       // mean 0, deviation 0.3
  kNorm,       // near 0: these norms multiply by 1 + w
  kGatedNorm,  // near 1
  kLogDecay,   // A_log: log of 1 .. 16
  kTimeStep,   // dt_bias: softplus of it is 0.001 .. 0.1
};
DummyKind dummy_kind(const std::string& name);

// FP8 blocks of dummy matrices: q spans the type, and q * scale has deviation 0.02. Scales differ from block to block,
// so that reading the wrong one shows.
float dummy_scale(const std::string& weight_name, int64_t block);

// Fills contiguous `out` (bf16 or fp8_e4m3, [rows, columns]) with a window of the matrix `name`, whose rows have
// `pitch` elements: out[r][c] is element begin + r * pitch + c.
void fill_dummy(const std::string& name, int64_t begin, int64_t pitch, const Tensor& out, int threads);
// The same in the device's memory, which the device fills itself; false if it cannot.
bool fill_dummy_on(Device& device, const std::string& name, int64_t begin, int64_t pitch, const Tensor& out);

}  // namespace hylas
