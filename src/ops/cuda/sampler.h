#pragma once
// Ops::sample and Ops::logprobs on the GPU: what a row asks for becomes small tables on the device, tokens come back.
#include <vector>

#include "ops/cuda/products.h"
#include "ops/cuda/sampling_kernels.h"
#include "ops/cuda/workspace.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

// Not thread-safe. All but sample_ahead wait for the device: the results are on the host when a call returns.
class Sampler {
 public:
  explicit Sampler(CudaDevice& device) : device_(device) {}

  void sample(Workspace& workspace, const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
              std::span<SampleResult> results);
  void sample_ahead(Workspace& workspace, const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                    std::span<const int32_t> slots, const Tensor& last_tokens, const Tensor& drawn);
  void logprobs(Workspace& workspace, const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                std::span<SampleResult> results);

 private:
  // Where the logits of every row are: the model's, or a changed copy.
  std::vector<const float*> sources(Workspace& workspace, const Tensor& logits, int32_t count,
                                    std::span<const SampleRow> rows);
  // Tokens to `drawn`, and to `last_tokens` at the rows' slots unless it is null.
  void draw_rows(Workspace& workspace, const Tensor& logits, int32_t count, std::span<const SampleRow> rows,
                 std::span<const int32_t> slots, int32_t* last_tokens, int32_t* drawn);
  // Results `which`, whose tokens are known, are of the rows of `logits` with the same number.
  void fill_logprobs(Workspace& workspace, const Tensor& logits, int32_t best_of, int32_t top,
                     std::span<const int32_t> which, std::span<SampleResult> results);
  template <class T>
  const T* upload(Workspace& workspace, const std::vector<T>& values);

  CudaDevice& device_;
};

}  // namespace hylas::cuda
