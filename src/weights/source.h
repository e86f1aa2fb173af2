#pragma once
// WeightSource: where a model takes its weights from. Names and layouts are model.md section 2's.
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "base/result.h"
#include "ops/weight.h"
#include "weights/checkpoint.h"
#include "weights/weight_store.h"

namespace hylas {

// Part of a dimension: [begin, begin + count); count -1: all of it.
struct Range {
  int64_t begin = 0;
  int64_t count = -1;
};

// Hands out weights that live as long as the source: views of what is stored where that is possible. Not thread-safe:
// one per rank; several may share a checkpoint. A rank asks for its shards only, and the source counts what it handed
// out, so that a test can say that a rank read only its own. FP8 shards begin and end at blocks of 128 (kUnsupported,
// naming the numbers; the last block may be cut by the matrix).
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // From here on everything handed out lies on `device`, which outlives the source; without this call in host memory.
  // `experts_together`: of a layer's FP8 experts gate | up of one behind those of the other, and so the down matrices
  // and the scales.
  void place_on(Device& device, bool experts_together = false);

  // Called with the bytes of every part that is handed out for the first time: with place_on() that is when it is read.
  void on_taken(std::function<void(size_t bytes)> call) { on_taken_ = std::move(call); }

  virtual bool has(const std::string& name) const = 0;

  // A tensor in f32 or bf16. kNotFound: names the tensor. kInvalid: another shape (both are named). kUnsupported:
  // another type.
  Result<Tensor> tensor(const std::string& name, std::initializer_list<int64_t> shape);
  // Ranges of its dimension 0, one after another, copied if there are several.
  Result<Tensor> tensor_rows(const std::string& name, std::initializer_list<int64_t> shape,
                             std::span<const Range> ranges);

  // The matrix `name`.weight [out, in] in f32, bf16 or FP8 blocks: FP8 iff stored so; its scale is
  // `name`.weight_scale_inv.
  Result<LinearWeight> linear(const std::string& name, int64_t out, int64_t in);
  Result<LinearWeight> linear_rows(const std::string& name, int64_t out, int64_t in, std::span<const Range> ranges);
  Result<LinearWeight> linear_columns(const std::string& name, int64_t out, int64_t in, Range columns);

  // `experts` of `prefix` ("..mlp.experts"), of each the inner columns `widths` of `width`. Fused or per-expert, as
  // stored; the others are not read.
  Result<ExpertWeights> experts(const std::string& prefix, Range experts, int64_t hidden, int64_t width, Range widths);

  // Brings everything handed out so far into memory.
  virtual void prefetch(const LoadProgress& progress) = 0;

  // Of tensors handed out: each part counted once, scales included.
  size_t bytes_used() const { return bytes_used_; }
  const std::set<std::string>& names_used() const { return names_used_; }

 protected:
  // Part of a stored tensor seen as a matrix: its last dimension are the columns, the others the rows; a vector is one
  // column.
  struct Part {
    Range rows, columns;
  };
  // `part` of the stored tensor `name`, in whatever type it has, as a matrix that may have a row stride; counted.
  // shape[0] == -1 takes any number.
  virtual Result<Tensor> fetch(const std::string& name, std::span<const int64_t> shape, const Part& part) = 0;
  // `part`, in elements of the matrix [out, in], of the scale of the FP8 matrix `weight_name`: f32, counted.
  virtual Result<Tensor> fetch_scale(const std::string& weight_name, int64_t out, int64_t in, const Part& part) = 0;
  // A matrix that is made where place_on() wants it, by `make`; null without place_on() or where `make` answers false.
  Result<Tensor> make_placed(DType dtype, int64_t rows, int64_t columns,
                             const std::function<bool(Device&, const Tensor&)>& make);
  // False if `name` had been counted already.
  bool count(const std::string& name, size_t bytes);
  // As a part is counted: "name", "name[rows 0:4]", "name[columns 64:128]".
  static std::string part_name(const std::string& name, const Part& part);

  std::unique_ptr<Device> host_ = make_cpu_device();  // before the stores
  WeightStore store_{*host_, size_t{4} << 20};        // what cannot be a view

 private:
  Result<LinearWeight> linear_part(const std::string& name, int64_t out, int64_t in, const Part& part);
  Result<Tensor> stack(std::span<const Tensor> parts);
  // Where the caller wants it: the same, or a copy on the device.
  Result<Tensor> placed(const Tensor& tensor);
  Result<LinearWeight> placed(const LinearWeight& weight);
  // The same at places that the caller chose, null: any.
  struct Place {
    std::byte* weight = nullptr;
    std::byte* scale = nullptr;
  };
  Result<LinearWeight> expert_part(const std::string& name, int64_t out, int64_t in, const Part& part, Place place);
  // Places for all matrices [rows, columns] of `count`, one behind the other; null without experts_together.
  struct Places {
    Place first;
    size_t weight_bytes = 0, scale_bytes = 0;  // of one
    Place at(int64_t index) const;
  };
  Result<Places> expert_places(int64_t count, int64_t rows, int64_t columns);
  // Room on the device: where the next tensor was told to go, or anywhere.
  Result<std::byte*> room(size_t bytes);

  Device* device_ = nullptr;  // null: host memory
  std::optional<WeightStore> device_store_;
  bool experts_together_ = false;
  std::byte* next_place_ = nullptr;
  std::set<const void*> made_placed_;
  std::set<std::string> names_used_;
  size_t bytes_used_ = 0;
  std::function<void(size_t bytes)> on_taken_;
};

}  // namespace hylas
