#pragma once
// DummySource: realistic weights from shapes alone (--load-format dummy), for benchmarks and tests of models of any
// size.
#include <map>
#include <string>
#include <vector>

#include "weights/source.h"
#include "weights/tensor_spec.h"

namespace hylas {

// Values are a function of tensor name and element index only: the same on every rank, for every range of experts and
// any number of threads. Matrices have standard deviation 0.02; norms, gates and decays lie where trained models have
// theirs. Memory is taken and filled when a tensor is asked for the first time.
class DummySource final : public WeightSource {
 public:
  // `specs`: the manifest of the model (model/manifest.h), which also says what is FP8. threads = 0: one per core.
  explicit DummySource(const std::vector<TensorSpec>& specs, int threads = 0);

  bool has(const std::string& name) const override { return specs_.contains(name); }
  void prefetch(const LoadProgress& progress) override;

 protected:
  Result<Tensor> fetch(const std::string& name, std::span<const int64_t> shape, const Part& part) override;
  Result<Tensor> fetch_scale(const std::string& weight_name, int64_t out, int64_t in, const Part& part) override;

 private:
  std::map<std::string, TensorSpec> specs_;
  std::map<std::string, Tensor> filled_;  // by part_name
  int threads_;
};

}  // namespace hylas
