#pragma once
// CheckpointSource: weights as views of a mapped checkpoint; nothing is copied but FP8 scales and misaligned tensors.
#include <memory>
#include <string>
#include <vector>

#include "weights/source.h"

namespace hylas {

class CheckpointSource final : public WeightSource {
 public:
  // The checkpoint lives at least as long as the source.
  explicit CheckpointSource(std::shared_ptr<const Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {}

  bool has(const std::string& name) const override { return checkpoint_->find(name) != nullptr; }
  void prefetch(const LoadProgress& progress) override;

 protected:
  Result<Tensor> fetch(const std::string& name, std::span<const int64_t> shape, const Part& part) override;
  Result<Tensor> fetch_scale(const std::string& weight_name, int64_t out, int64_t in, const Part& part) override;

 private:
  Result<Tensor> aligned_copy(const Tensor& view);

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::vector<std::span<const std::byte>> pieces_;  // mapped bytes handed out
};

}  // namespace hylas
