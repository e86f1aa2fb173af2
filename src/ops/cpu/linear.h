#pragma once
// Ops::linear and Ops::linear_partial on the CPU: splits products into pieces of work for the thread pool.
#include <span>
#include <vector>

#include "ops/cpu/gemm.h"
#include "ops/cpu/scratch.h"
#include "ops/cpu/thread_pool.h"

namespace hylas::cpu {

// Tokens taken at once: bounds the memory of packed rows. A multiple of kRowTile.
constexpr int64_t kTokenBlock = 1008;

// Memory of the products, kept between calls. It grows with the widest layer and the most tokens (up to kTokenBlock)
// seen, so a settled engine allocates nothing.
struct GemmScratch {
  GemmScratch(int threads, Isa isa) : kernels(&gemm_kernels(isa)), threads(static_cast<size_t>(threads)) {}

  struct alignas(64) PerThread {
    GrowBuffer<float> multiply;  // multiply_scratch()
    GrowBuffer<float> packed;    // rows of one expert
    GrowBuffer<float> results;   // products before they are combined
  };
  const GemmKernels* kernels;
  std::vector<PerThread> threads;
  GrowBuffer<float> packed[3];  // by WeightFormat
};

void linear(ThreadPool& pool, GemmScratch& scratch, const Tensor& x, std::span<const LinearWeight> weights,
            std::span<const Tensor> outs);
void linear_partial(ThreadPool& pool, GemmScratch& scratch, const Tensor& x, const LinearWeight& weight,
                    const Tensor& partials);

}  // namespace hylas::cpu
