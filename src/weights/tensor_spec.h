#pragma once
// TensorSpec: a tensor that a checkpoint must have. model/manifest makes the list; checking, dummy weights and
// quantisation read it.
#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace hylas {

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  // How the family stores it: bf16, or fp8_e4m3 with a sibling scale (scale_name) of one value per 128 x 128 block. A
  // checkpoint may hold it in f32 or bf16 instead, and matrices in FP8.
  DType dtype = DType::kBF16;
  int32_t layer = -1;  // global layer id; -1: in no layer. The MTP layer counts on from the last one
  bool mtp = false;    // of the MTP head: a checkpoint has all of these tensors or none

  int64_t elements() const {
    int64_t product = 1;
    for (int64_t dim : shape) product *= dim;
    return product;
  }
};

// "X.weight_scale_inv" for "X.weight" (model.md section 2).
inline std::string scale_name(const std::string& weight_name) { return weight_name + "_scale_inv"; }

}  // namespace hylas
