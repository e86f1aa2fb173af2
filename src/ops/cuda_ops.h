#pragma once
// The operators on an NVIDIA GPU. In a build without CUDA every call answers that there is none.
#include <algorithm>
#include <memory>

#include "ops/ops.h"

namespace hylas {

// Which products of FP8 weights quantize activations to FP8 in groups of 128: those of many rows by DeepGEMM's kernels,
// of few by ours.
struct CudaFp8Options {
  bool linear = false;           // --fp8-gemm-backend deep_gemm
  bool experts = false;          // --moe-runner-backend deep_gemm
  int64_t rows_min = 17;         // of a matrix's product by DeepGEMM
  int64_t expert_rows_min = 16;  // of an expert, on average
};

// Which kernels of prefill are FlashInfer's.
struct CudaPrefillOptions {
  bool delta = false;      // --linear-attn-backend flashinfer
  bool attention = false;  // --prefill-attention-backend fa3
};

struct CudaOpsOptions {
  int device = 0;
  // Kernels count on no more multiprocessors than that; 0: on all. How a smaller GPU is tried on a larger one.
  int multiprocessors_max = 0;
  // Memory that operators use within a call, taken at start. Large steps are cut so that they fit.
  size_t workspace_bytes = size_t{512} << 20;
  // So much instead if it is more, up to 1 / kWorkspaceShare of the GPU's memory.
  size_t workspace_wanted_bytes = 0;
  CudaFp8Options fp8;
  CudaPrefillOptions prefill;
  // A decode step of one sequence takes several layers at once where their shapes allow it. Ranks that share a GPU
  // would wait for each other: such launches need all of it.
  bool row_layers = false;
};
constexpr size_t kWorkspaceShare = 16;
constexpr size_t workspace_bytes_on(const CudaOpsOptions& options, size_t gpu_bytes) {
  return std::max(options.workspace_bytes, std::min(options.workspace_wanted_bytes, gpu_bytes / kWorkspaceShare));
}

// One thread at a time may use it. kUnsupported: no GPU, another architecture, an old
// driver, or a build without CUDA; kExhausted: too little memory.
Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions& options);

// GPUs that this process can see (CUDA_VISIBLE_DEVICES); 0 without a driver and in a build without CUDA.
int cuda_device_count();

// Before the first use of a GPU in the process, where kernels of several GPUs will wait for each other: from then on
// the driver loads all kernels with a program's module. Loading one later can wait for a kernel that waits for another
// rank, which may be about to load one.
void cuda_load_all_kernels();

}  // namespace hylas
