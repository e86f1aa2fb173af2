#pragma once
// WeightSource: where a model takes its weights from. Names and layouts are model.md section 2's.
#include <cstdint>
#include <initializer_list>
#include <set>
#include <span>
#include <string>

#include "base/result.h"
#include "ops/weight.h"
#include "weights/checkpoint.h"

namespace hylas {

// Hands out views that live as long as the source. Not thread-safe: one per rank; several may share a checkpoint. A
// source counts what it handed out, so that a test can say that a rank read only its own.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual bool has(const std::string& name) const = 0;

  // A tensor in f32 or bf16. kNotFound: names the tensor. kInvalid: another shape (both are named). kUnsupported:
  // another type.
  Result<Tensor> tensor(const std::string& name, std::initializer_list<int64_t> shape);

  // The matrix `name`.weight [out, in] in f32, bf16 or FP8 blocks: FP8 iff stored so; its scale is
  // `name`.weight_scale_inv.
  Result<LinearWeight> linear(const std::string& name, int64_t out, int64_t in);

  // Experts [expert_begin, expert_begin + expert_count) of `prefix` ("..mlp.experts"), `width` inputs to each one's
  // down projection. Fused or per-expert, as stored; the others are not read.
  Result<ExpertWeights> experts(const std::string& prefix, int64_t expert_begin, int64_t expert_count, int64_t hidden,
                                int64_t width);

  // Brings everything handed out so far into memory.
  virtual void prefetch(const LoadProgress& progress) = 0;

  // Of tensors handed out: each counted once, scales included; a range of fused experts as "name[begin:end]".
  size_t bytes_used() const { return bytes_used_; }
  const std::set<std::string>& names_used() const { return names_used_; }

 protected:
  // Part of dimension 0 of a stored tensor.
  struct Part {
    int64_t begin = 0;
    int64_t count = -1;  // -1: all
  };
  // `part` of the stored tensor `name`, in whatever type it has; counted. shape[0] == -1 takes any number.
  virtual Result<Tensor> fetch(const std::string& name, std::span<const int64_t> shape, Part part) = 0;
  // The scale of the FP8 matrix `weight_name`, f32 [ceil(out / 128), ceil(in / 128)]; counted.
  virtual Result<Tensor> fetch_scale(const std::string& weight_name, int64_t out, int64_t in) = 0;
  // False if `name` had been counted already.
  bool count(const std::string& name, size_t bytes);
  // "name[begin:end]", as a part is counted.
  static std::string part_name(const std::string& name, Part part) {
    return fmt::format("{}[{}:{}]", name, part.begin, part.begin + part.count);
  }

 private:
  std::set<std::string> names_used_;
  size_t bytes_used_ = 0;
};

// Shards of a matrix, without copying. FP8: `begin` must be a multiple of 128 (kUnsupported, naming both numbers).
Result<LinearWeight> weight_rows(const LinearWeight& whole, int64_t begin, int64_t count);
Result<LinearWeight> weight_columns(const LinearWeight& whole, int64_t begin, int64_t count);

}  // namespace hylas
